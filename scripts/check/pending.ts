/**
 * Folders in which a rule does not hold yet, while they are rewritten one by one. What is listed is not reported; an
 * entry that is clean is.
 */
import type { Violation } from "../dependency-arrows.ts";

export type Rule = "words" | "spreads";

const packages = (names: string): string[] => names.split(" ").map((name) => `packages/${name}`);

const pending: Readonly<Record<Rule, readonly string[]>> = {
  words: [
    ...["docs", "flake.nix", "test"],
    ...packages("cli control daemon host instance launcher os proxy"),
  ],
  spreads: [],
};

/** What to report of a rule: nothing of the folders that are listed for it, and those that need not be listed. */
export function withoutPending(rule: Rule, violations: readonly Violation[]): Violation[] {
  const isIn = (violation: Violation, folder: string): boolean =>
    violation.startsWith(`${folder}/`) || violation.startsWith(`${folder}:`);
  const folders = pending[rule];
  return violations.filter((violation) => !folders.some((folder) => isIn(violation, folder)));
}

/** What is left to do, to print: how much in each folder, or with `--all` every line. */
export function describePending(rule: Rule, violations: readonly Violation[]): string[] {
  const reported = new Set(withoutPending(rule, violations));
  const left = violations.filter((violation) => !reported.has(violation));
  if (process.argv.includes("--all")) return left;
  const counts = new Map<string, number>();
  for (const violation of left) {
    const folder = /^(?:packages\/)?[^/:]+/u.exec(violation)?.[0] ?? "";
    counts.set(folder, (counts.get(folder) ?? 0) + 1);
  }
  return left.length === 0 ? [] : [`left: ${[...counts].map((entry) => entry.join(" ")).join(", ")}`];
}
