/**
 * Finds exported names that nothing imports, and those that only tests import. Test support is in use when a test uses it,
 * and a type when an export that is in use names it. Pure.
 */
import type { Violation } from "../dependency-arrows.ts";
import { type Export, isTestOnly, type Source, type SourceGraph } from "./source-graph.ts";

/** Exports whose only users are tests. The figure of 2026-11-30; lower it when one goes, never raise it. */
const TESTED_ONLY_MAX = 31;

export function findUnusedExports(graph: SourceGraph): { lost: Violation[]; testedOnly: Violation[] } {
  const importers = importersOf(graph);
  const found = { lost: [] as Violation[], testedOnly: [] as Violation[] };
  for (const source of graph.values()) {
    if (importers.has(`${source.path} *`)) continue;
    const of = (one: Export): Importers | undefined => importers.get(`${source.path} ${one.name}`);
    const unused = source.exports.filter(
      (one) => of(one) !== "programs" && !(of(one) === "tests" && isTestOnly(source.path)),
    );
    for (const one of unused) {
      if (isNamedByAnother(source, one, unused)) continue;
      const at = `${source.path}:${one.line}: exports ${one.name}, which`;
      if (of(one) === "tests") found.testedOnly.push(`${at} only tests import`);
      else found.lost.push(`${at} nothing imports: remove the export`);
    }
  }
  return found;
}

/** Refuses more of them than there were: test through what programs use, or move test support to testing/. */
export function judgeTestedOnly(exports: readonly Violation[]): { lines: string[]; violations: Violation[] } {
  const line = `${exports.length} exports have only tests as users; the most is ${TESTED_ONLY_MAX}`;
  return exports.length > TESTED_ONLY_MAX
    ? { lines: [line], violations: [...exports] }
    : { lines: process.argv.includes("--all") ? [line, ...exports] : [line], violations: [] };
}

type Importers = "programs" | "tests";

/** `path name` → who imports it. */
function importersOf(graph: SourceGraph): Map<string, Importers> {
  const found = new Map<string, Importers>();
  for (const { path, imports } of graph.values())
    for (const { target, names } of imports)
      for (const key of names.map((name) => `${target} ${name}`))
        if (!isTestOnly(path)) found.set(key, "programs");
        else if (!found.has(key)) found.set(key, "tests");
  return found;
}

/** True for a type that an export in use has in its text: a caller may have to name it. */
function isNamedByAnother(source: Source, type: Export, unused: readonly Export[]): boolean {
  if (!type.isType) return false;
  const name = new RegExp(`\\b${type.name}\\b`, "u");
  return source.exports.some(
    (other) =>
      other !== type && (!unused.includes(other) || other.isType) && name.test(textOf(source, other)),
  );
}

/** The text of an exported declaration: up to the next line that begins a declaration. */
function textOf({ text }: Source, { line }: Export): string {
  const lines = text.split("\n").slice(line - 1);
  const end = lines.findIndex((one, index) => index > 0 && /^[a-z/]/u.test(one));
  return lines.slice(0, end < 0 ? undefined : end).join("\n");
}
