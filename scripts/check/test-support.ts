/**
 * Test support lies in a folder named `testing/`, so that one look tells it from code that ships: shipped code imports
 * none of it, and a file that only tests import lies there. Pure.
 */
import type { Violation } from "../dependency-arrows.ts";
import { isTestOnly, type SourceGraph } from "./source-graph.ts";

/** `programs` are the files at which programs begin: nothing imports them. */
export function checkTestSupport(graph: SourceGraph, programs: ReadonlySet<string>): Violation[] {
  const importers = importersOf(graph);
  return [...graph.values()].flatMap(({ path, imports }) => {
    if (isTestOnly(path) || !path.startsWith("packages/")) return [];
    const inTesting = imports.filter(({ target }) => isTestOnly(target));
    const by = importers.get(path) ?? [];
    return [
      ...inTesting.map(
        ({ target, line }) => `${path}:${line}: shipped code imports test support (${target})`,
      ),
      ...(programs.has(path) || by.some((importer) => !isTestOnly(importer))
        ? []
        : [
            `${path}: ${by.length === 0 ? "nothing imports it" : "only tests import it: move it to testing/"}`,
          ]),
    ];
  });
}

function importersOf(graph: SourceGraph): Map<string, string[]> {
  const importers = new Map<string, string[]>();
  for (const { path, imports } of graph.values())
    for (const { target } of imports) importers.set(target, [...(importers.get(target) ?? []), path]);
  return importers;
}
