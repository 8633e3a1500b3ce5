import { withoutComments } from "./source-graph.ts";

const transpiler = new Bun.Transpiler({ loader: "ts" });
const statement = /^\s*(?:import|export)\b[^'"`;=()]*?\bfrom\s*(["'])([^"'\n]+)\1/gmu;
const typeQuery = /\bimport\(\s*(["'])([^"'\n]+)\1\s*\)/gu;

/** Every module a source names: imports that run, re-exports, and those only the types need. */
export function importsOf(text: string): string[] {
  const code = withoutComments(text);
  const found = new Set(transpiler.scanImports(text).map((entry) => entry.path));
  for (const pattern of [statement, typeQuery])
    for (const match of code.matchAll(pattern)) if (match[2] !== undefined) found.add(match[2]);
  return [...found];
}
