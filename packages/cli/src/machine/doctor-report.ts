/** The results of the doctor, as text for people and as JSON for programs. */
import { adviceOn } from "@bureau/host/checks/advice";
import {
  type Check,
  type CheckResult,
  checkGroups,
  type Finding,
  remedyOf,
  type Status,
} from "@bureau/host/checks/check";
import { type Summary, summarise } from "@bureau/host/checks/run-checks";
import type { Change, Step } from "@bureau/host/doctor/plan";
import { describeAction } from "@bureau/host/resources/registry";
import { digestOf } from "@bureau/os/digest";
import type { Style, Terminal } from "../command/terminal.ts";
import { asTyped } from "../command/typed-command.ts";

/** The stable schema of `--json`. */
export type DoctorJson = {
  readonly summary: Summary;
  readonly checks: readonly {
    readonly id: string;
    readonly group: string;
    readonly status: Status;
    readonly found: string;
    readonly expected: string;
    /** How to repair it; null when nothing is wrong. */
    readonly fix: string | null;
  }[];
  /** With `--fix`: what was done, or would be. */
  readonly changes?: readonly Change[];
  readonly errors?: readonly Change[];
  readonly dry_run?: boolean;
  readonly interrupted?: boolean;
};

export function toJson(
  results: readonly CheckResult[],
  more: Pick<DoctorJson, "changes" | "errors" | "dry_run" | "interrupted"> = {},
): DoctorJson {
  return {
    summary: summarise(results),
    checks: results.map(({ check, finding }) => ({
      id: check.id,
      group: check.group,
      status: finding.status,
      found: finding.found,
      expected: finding.expected ?? check.expected,
      fix: fixText(check, finding),
    })),
    ...more,
  };
}

/** What to do about a finding, in one line. */
function fixText(check: Check, finding: Finding): string | null {
  const { status } = finding;
  const { actions = [] } = remedyOf(finding);
  if (status === "pass" || status === "skip") return null;
  if (actions.length > 0)
    return asTyped(`bureau machine doctor --fix (${summary(actions.map(describeAction))})`);
  const advice = adviceOn(check, finding);
  return advice === undefined ? null : asTyped(advice);
}

/** Lines of one fix that are spelled out. */
const ACTS_SHOWN = 3;

function summary(acts: readonly string[]): string {
  const more = acts.length - ACTS_SHOWN;
  return `${acts.slice(0, ACTS_SHOWN).join("; ")}${more > 0 ? `; ${more} more` : ""}`;
}

export function printResults(
  results: readonly CheckResult[],
  terminal: Terminal,
  fixed: ReadonlySet<string>,
): void {
  const idWidth = Math.max(...results.map(({ check }) => check.id.length));
  for (const group of checkGroups) {
    // What has no meaning for a rootless instance is only counted.
    const members = results.filter(
      ({ check, finding }) => check.group === group && !isNotApplicable(finding),
    );
    if (members.length === 0) continue;
    terminal.print(terminal.style.bold(group));
    for (const { check, finding } of members) {
      const note = fixed.has(check.id) && finding.status === "pass" ? terminal.style.green(" (fixed)") : "";
      terminal.print(
        `  ${mark(finding.status, terminal.style)} ${check.id.padEnd(idWidth)}  ${finding.found}${note}`,
      );
      if (!isBroken(finding.status)) continue;
      const indent = " ".repeat(idWidth + 6);
      terminal.print(terminal.style.dim(`${indent}expected: ${finding.expected ?? check.expected}`));
      const { actions = [] } = remedyOf(finding);
      const fix =
        actions.length > 0 ? `--fix: ${summary(actions.map(describeAction))}` : fixText(check, finding);
      if (fix !== null) terminal.print(`${indent}→ ${fix.replaceAll("\n", `\n${indent}  `)}`);
    }
  }
  const { pass, warn, fail, skip } = summarise(results);
  const counts = [`${pass} pass`, `${warn} warn`, `${fail} fail`, `${skip} skipped`];
  if (fixed.size > 0) counts.unshift(`${fixed.size} fixed`);
  terminal.print(`\n${counts.join(", ")}`);
  const fixable = results.filter(({ finding }) => (remedyOf(finding).actions ?? []).length > 0);
  if (fixable.length > 0)
    terminal.print(
      asTyped(`bureau machine doctor --fix can fix ${fixable.length}; --fix --dry-run shows how.`),
    );
  const hiddenOnes = results.filter(
    ({ finding }) => finding.status === "skip" && finding.because === "hidden",
  );
  if (hiddenOnes.length > 0 && process.getuid?.() !== 0)
    terminal.print(asTyped(`Root sees ${hiddenOnes.length} more: ${ROOT_LOOKS}`));
}

const isNotApplicable = (finding: Finding): boolean =>
  finding.status === "skip" && finding.because === "not-applicable";

const ROOT_LOOKS = "sudo bureau machine doctor";

const isBroken = (status: Status): boolean => status === "fail" || status === "warn";

function mark(status: Status, style: Style): string {
  switch (status) {
    case "pass":
      return style.green("✓");
    case "warn":
      return style.bold("!");
    case "fail":
      return style.red("✗");
    case "skip":
      return style.dim("-");
  }
}

/** `print` is the terminal's, for the result or for what leads to it. */
export function printPlan(steps: readonly Step[], print: (line: string) => void): void {
  print("What --fix does:");
  for (const { action } of steps) print(`  ${describeAction(action)}`);
}

/** The same for two plans that do the same. */
export const planDigest = (steps: readonly Step[]): string => digestOf(steps.map(({ action }) => action));
