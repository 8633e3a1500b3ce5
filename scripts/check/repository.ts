/** The rules for single files, over all files of the repository. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { checkArrows, checkDeclared, type Violation } from "../dependency-arrows.ts";
import { checkHygiene } from "../hygiene.ts";
import { checkRuntimeStarts } from "../runtime-starts.ts";
import { isTestOnly, packageOfPath } from "./source-graph.ts";

/** Checks every package among `texts` for its arrows. */
export function checkPackages(texts: ReadonlyMap<string, string>): Violation[] {
  return [...texts].flatMap(([manifest, json]) => {
    const name = /^packages\/(.+)\/package\.json$/u.exec(manifest)?.[1];
    if (name === undefined) return [];
    const { dependencies = {} } = JSON.parse(json) as { dependencies?: Record<string, string> };
    const declared = new Set(Object.keys(dependencies));
    const sources = [...texts].filter(
      ([path]) => packageOfPath(path) === name && /\.tsx?$/u.test(path) && !isTestOnly(path),
    );
    return [
      ...checkDeclared(name, declared),
      ...sources.flatMap(([path, text]) => checkArrows({ path, text, declared })),
    ];
  });
}

/** The text files among `files`, by their path from the root. */
export function readTexts(at: string, files: readonly string[]): Map<string, string> {
  const texts = new Map<string, string>();
  for (const path of files) {
    const bytes = readFileSync(join(at, path));
    if (!bytes.includes(0)) texts.set(path, bytes.toString("utf8"));
  }
  return texts;
}

/** Checks every text for what none may hold. */
export function checkFiles(at: string, texts: ReadonlyMap<string, string>): Violation[] {
  return [...texts].flatMap(([path, text]) => [
    ...checkHygiene(path, text, at),
    ...checkRuntimeStarts(path, text),
  ]);
}
