/** Checks one source file against the layers. Pure. Imports of types count: an arrow is knowledge, not bytes. */
import { isBuiltin } from "node:module";
import { dirname, join, normalize } from "node:path";
import { importsOf } from "./check/imports-of.ts";
import { arrows } from "./check/layers.ts";
import { packageOfPath, withoutComments } from "./check/source-graph.ts";

/** Each other package below `services/` is a program: it imports no sibling, only what they share. */
const ofService = ["services/kit", "control", "matrix", "os", "kit", "schema"];

/** What a package may import; undefined when it has no place in the layers. */
function arrowsOf(name: string): readonly string[] | "all" | undefined {
  return arrows[name] ?? (name.startsWith("services/") ? ofService : undefined);
}

/** `services/fleet` of `@bureau/service-fleet`. */
const folderOf = (dependency: string): string =>
  dependency.slice("@bureau/".length).replace(/^service-/u, "services/");

/** Packages that run in a browser too: no runtime of a server, and only these third parties. */
const browserSafe: Readonly<Record<string, readonly string[]>> = {
  schema: ["valibot"],
  kit: ["valibot", "cborg"],
  matrix: ["valibot"],
  control: ["valibot", "age-encryption", "@noble/hashes"],
};

/** Packages without HTTP: a program that holds keys neither sends requests nor parses them. */
const withoutHttp: ReadonlySet<string> = new Set(["launcher"]);
const httpModules: ReadonlySet<string> = new Set(["node:http", "node:https", "node:http2"]);

/** The one file outside that any package may read: it holds the version all programs share. */
const sharedFile = "package.json";

export type SourceFile = {
  /** From the root: `packages/<name>/src/…`. */
  readonly path: string;
  readonly text: string;
  /** `dependencies` of the package's package.json. */
  readonly declared: ReadonlySet<string>;
};

/** One thing that is not as it must be, in words for a person: where, what, and the rule. */
export type Violation = string;

/** Checks one source file that is not a test; tests may import anything. */
export function checkArrows(file: SourceFile): Violation[] {
  const name = packageOfPath(file.path) ?? "";
  const allowed = arrowsOf(name);
  if (allowed === undefined)
    return [`${file.path}: package "${name}" has no place in the layers: add it to scripts/check/layers.ts`];
  const faults = importsOf(file.text).map(
    (specifier) => [specifier, faultOf(specifier, file, name)] as const,
  );
  const violations = faults.flatMap(([specifier, fault]) =>
    fault === undefined ? [] : [`${file.path}: imports "${specifier}": ${fault}`],
  );
  const server = name in browserSafe ? serverGlobal(file.text) : undefined;
  if (server !== undefined)
    violations.push(`${file.path}: uses "${server}": ${name} is browser-safe, it has no globals of a server`);
  if (withoutHttp.has(name) && /(?<![.\w$])(?:fetch\s*\(|Bun\.serve\b)/u.test(codeOf(file.text)))
    violations.push(`${file.path}: uses HTTP, and ${name} has none`);
  return violations;
}

function faultOf(specifier: string, file: SourceFile, name: string): string | undefined {
  if (specifier.startsWith(".")) return relativeFault(specifier, file.path, name);
  if (specifier.startsWith("/")) return "an import names no absolute path";
  if (specifier.startsWith("node:") || specifier === "bun" || specifier.startsWith("bun:"))
    return builtinFault(specifier, name);
  if (isBuiltin(specifier)) return "modules of the runtime are imported as node:…";
  const [scope = "", rest = ""] = specifier.split("/");
  const dependency = scope.startsWith("@") ? `${scope}/${rest}` : scope;
  if (scope === "@bureau") {
    const allowed = arrowsOf(name);
    const target = folderOf(dependency);
    if (target === name) return "inside a package imports are relative";
    if (allowed !== "all" && !allowed?.includes(target))
      return `${name} may import ${allowed?.length ? `only ${allowed.join(" and ")}` : "no package of ours"}`;
  } else if (browserSafe[name]?.includes(dependency) === false)
    return `${name} may use only ${browserSafe[name].join(", ")}`;
  return file.declared.has(dependency) ? undefined : `packages/${name}/package.json does not declare it`;
}

function builtinFault(specifier: string, name: string): string | undefined {
  if (name in browserSafe) return `${name} is browser-safe, it imports no module of a server`;
  return withoutHttp.has(name) && httpModules.has(specifier) ? `${name} has no HTTP` : undefined;
}

function relativeFault(specifier: string, path: string, name: string): string | undefined {
  const target = normalize(join(dirname(path), specifier));
  if (target === sharedFile) return undefined;
  if (!target.startsWith(`packages/${name}/src/`)) return "a relative import stays inside its package";
  return /\.(ts|json)$/u.test(specifier) ? undefined : "a relative import carries its .ts";
}

/** The first use of something only a server's runtime has, outside comments and texts. */
function serverGlobal(text: string): string | undefined {
  const code = codeOf(text);
  const used = /(?<![.\w$])(?:(?:Bun|process|Buffer)\s*[.[(]|require\s*\(|__dirname|__filename)/u.exec(
    code,
  )?.[0];
  return used ?? /\bimport\.meta\.(?:dir|path|file|main|env)\b/u.exec(code)?.[0];
}

/** Without comments and the contents of texts. */
const codeOf = (text: string): string =>
  withoutComments(text).replace(/(["'`])(?:\\.|(?!\1)[^\\])*\1/gsu, '""');

/** Faults of a package.json itself: an arrow that is declared but not allowed. */
export function checkDeclared(name: string, declared: Iterable<string>): Violation[] {
  const allowed = arrowsOf(name);
  if (allowed === undefined || allowed === "all") return [];
  return [...declared]
    .filter((dependency) => dependency.startsWith("@bureau/") && !allowed.includes(folderOf(dependency)))
    .map(
      (dependency) => `packages/${name}/package.json: declares "${dependency}", which ${name} may not import`,
    );
}
