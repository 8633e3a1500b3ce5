/**
 * The sources as a graph: what each file exports, and which names of which other file it imports. Pure and lexical:
 * biome formats every source, nothing has a default export, and a re-export names what it passes on, so that a parser
 * is not needed and 1,000 files take a quarter of a second.
 */
import { dirname, join, normalize } from "node:path";

/** One import: of a file of the repository by its path, or of a package or module by its name. */
export type Import = {
  readonly target: string;
  readonly line: number;
  /** Imported names; `*` stands for all of them. Empty when only the file's effects are wanted. */
  readonly names: readonly string[];
};

export type Export = { readonly name: string; readonly line: number; readonly isType: boolean };

export type Source = {
  readonly path: string;
  readonly text: string;
  readonly exports: readonly Export[];
  readonly imports: readonly Import[];
};

export type SourceGraph = ReadonlyMap<string, Source>;

const statement = /^(import|export)\s+(?:type\s+)?([^'"`;=()]*?)\s*from\s*(["'])([^"'\n]+)\3/gmu;
const forEffects = /^import\s*(["'])([^"'\n]+)\1/gmu;
const call = /\bimport\(\s*(["'])([^"'\n]+)\1\s*\)(?:\.(\w+))?/gu;
const declaration =
  /^export\s+(?:declare\s+)?(?:abstract\s+)?(?:async\s+)?(function\*?|const|let|class|type|interface|enum)\s+(\w+)/gmu;
const destructured = /^export\s+const\s+\{([^}]*)\}\s*=/gmu;
const list = /^export\s+(?:type\s+)?\{([^}]*)\}/gmu;

/** Reads every source among `files` (path from the root → text). */
export function readGraph(files: ReadonlyMap<string, string>): SourceGraph {
  const graph = new Map<string, Source>();
  for (const [path, text] of files) {
    if (!/(?<!\.d)\.(?:ts|tsx|mts|mjs)$/u.test(path)) continue;
    const code = withoutComments(text);
    graph.set(path, { path, text, exports: exportsOf(code), imports: importsOf(path, code) });
  }
  return graph;
}

/** The package of a path: `kit` of `packages/kit/src/…`, `services/fleet` of `packages/services/fleet/src/…`. */
export function packageOfPath(path: string): string | undefined {
  return /^packages\/((?:services\/)?[^/]+)\//u.exec(path)?.[1];
}

/** `kit` of `packages/kit/src/log.ts`; `@scope/name` of `node_modules/@scope/name/index.js`. */
export function packageOfModule(path: string): string {
  const parts = path.split("/");
  const third = parts.lastIndexOf("node_modules");
  if (third < 0) return parts[0] === "packages" ? (parts[1] ?? path) : path;
  const [scope = "", name = ""] = parts.slice(third + 1);
  return scope.startsWith("@") ? `${scope}/${name}` : scope;
}

/** A file that only tests use: a test itself, test support, or anything in `test/` and `testkit`. */
export function isTestOnly(path: string): boolean {
  return /\.test\.tsx?$|\/testing\/|^test\/|^packages\/testkit\//u.test(path);
}

/** Blanks comments and keeps every line where it is. */
export function withoutComments(text: string): string {
  return text
    .replace(/(^|[\s(])\/\*.*?\*\//gsu, (comment) => comment.replace(/[^\n]/gu, " "))
    .replace(/(^|\s)\/\/.*$/gmu, "$1");
}

function exportsOf(code: string): Export[] {
  const found = [...code.matchAll(declaration)].map((match) => ({
    name: match[2] ?? "",
    line: lineAt(code, match.index),
    isType: match[1] === "type" || match[1] === "interface",
  }));
  for (const pattern of [destructured, list])
    for (const match of code.matchAll(pattern))
      for (const name of namesIn(match[1] ?? "", "last"))
        found.push({ name, line: lineAt(code, match.index), isType: false });
  return found;
}

function importsOf(path: string, code: string): Import[] {
  const found: Import[] = [];
  const add = (specifier: string, index: number, names: string[]): void => {
    found.push({ target: resolve(path, specifier), line: lineAt(code, index), names });
  };
  for (const match of code.matchAll(statement)) {
    const clause = match[2] ?? "";
    add(match[4] ?? "", match.index, clause.startsWith("*") ? ["*"] : namesIn(clause, "first"));
  }
  for (const match of code.matchAll(forEffects)) add(match[2] ?? "", match.index, []);
  for (const match of code.matchAll(call)) {
    const member = match[3];
    add(match[2] ?? "", match.index, [member === undefined || member === "then" ? "*" : member]);
  }
  return found;
}

/** `{ a, type B, c as d }` → the names before or behind `as`. */
function namesIn(clause: string, side: "first" | "last"): string[] {
  return clause
    .replace(/[{}]/gu, "")
    .split(",")
    .map((part) => part.trim().replace(/^type\s+/u, ""))
    .filter((part) => part !== "")
    .map((part) => part.split(/\s+as\s+|\s*:\s*/u).at(side === "first" ? 0 : -1) ?? part);
}

/** A path from the root for files of ours, else the specifier itself. */
function resolve(from: string, specifier: string): string {
  if (specifier.startsWith(".")) return normalize(join(dirname(from), specifier));
  const ours = /^@bureau\/(service-)?([^/]+)\/(.+)$/u.exec(specifier);
  if (ours === null) return specifier;
  return `packages/${ours[1] === undefined ? "" : "services/"}${ours[2]}/src/${ours[3]}.ts`;
}

function lineAt(text: string, index: number): number {
  let line = 1;
  for (let at = text.indexOf("\n"); at >= 0 && at < index; at = text.indexOf("\n", at + 1)) line++;
  return line;
}
