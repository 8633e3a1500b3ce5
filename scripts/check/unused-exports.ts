/**
 * Finds exported names that nothing imports. What only tests import counts as unused: a test holds on to it, no program
 * does. Test support is in use when a test uses it, and a type when an export that is in use names it. Pure.
 */
import type { Violation } from "../dependency-arrows.ts";
import { type Export, isTestOnly, type Source, type SourceGraph } from "./source-graph.ts";

export function checkUnusedExports(graph: SourceGraph): Violation[] {
  const importers = importersOf(graph);
  return [...graph.values()].flatMap((source) => {
    const faults = new Map(
      source.exports.map((one) => [one, faultOf(source, importers.get(`${source.path} ${one.name}`))]),
    );
    if (importers.get(`${source.path} *`) !== undefined) return [];
    return [...faults].flatMap(([one, fault]) =>
      fault === undefined || isNamedByAnother(source, one, faults)
        ? []
        : [`${source.path}:${one.line}: exports ${one.name}, ${fault}`],
    );
  });
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

function faultOf({ path }: Source, importers: Importers | undefined): string | undefined {
  if (importers === undefined) return "which nothing imports: remove the export";
  if (importers === "programs" || isTestOnly(path)) return undefined;
  return "which only tests import: test through what programs use, or move it to a file of its own or to testing/";
}

/** True for a type that an export in use has in its text: a caller may have to name it. */
function isNamedByAnother(
  source: Source,
  type: Export,
  faults: ReadonlyMap<Export, string | undefined>,
): boolean {
  if (!type.isType) return false;
  const name = new RegExp(`\\b${type.name}\\b`, "u");
  return [...faults].some(
    ([other, fault]) =>
      other !== type && (fault === undefined || other.isType) && name.test(textOf(source, other)),
  );
}

/** The text of an exported declaration: up to the next line that begins a declaration. */
function textOf({ text }: Source, { line }: Export): string {
  const lines = text.split("\n").slice(line - 1);
  const end = lines.findIndex((one, index) => index > 0 && /^[a-z/]/u.test(one));
  return lines.slice(0, end < 0 ? undefined : end).join("\n");
}
