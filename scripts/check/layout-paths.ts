/**
 * Only `os/layout` spells a path of a host, and only `schema/inside-paths` one inside a sandbox: elsewhere a text with such
 * a path, or with the name of a socket or file that these two name, is a fault. Pure.
 */
import type { Violation } from "../dependency-arrows.ts";
import { withoutComments } from "./source-graph.ts";

/** The files that spell paths. */
export const layoutFiles: readonly string[] = [
  "packages/os/src/layout.ts",
  "packages/schema/src/inside-paths.ts",
];

const text = /"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/gu;
const folder = /\/(?:run|etc|var|var\/lib)\/bureau\b/u;
/** A name of a file with a kind: the last part of a path. */
const name = /(?<=^|\/|\})[a-z][a-z-]*\.(?:sock|json|txt|pub|lock|cbor|cred|conf|sh|bpf|status|args)$/u;

/** The names of files that the layout's own sources spell. */
export function namesOf(layouts: Iterable<string>): ReadonlySet<string> {
  const found = [...layouts].flatMap((source) => textsOf(source).map((one) => name.exec(one.content)?.[0]));
  return new Set(found.filter((one) => one !== undefined));
}

export function checkLayoutPaths(path: string, source: string, names: ReadonlySet<string>): Violation[] {
  const isProgram = /^packages\/(?!testkit\/).*\.ts$/u.test(path);
  if (!isProgram || layoutFiles.includes(path) || /\.test\.ts$|\/testing\//u.test(path)) return [];
  return textsOf(source).flatMap(({ content, line }) => {
    const spelled = folder.exec(content)?.[0] ?? nameIn(content, names);
    return spelled === undefined
      ? []
      : [`${path}:${line}: spells "${spelled}": take the path from ${layoutFiles.join(" or ")}`];
  });
}

function nameIn(content: string, names: ReadonlySet<string>): string | undefined {
  const found = name.exec(content)?.[0];
  return found !== undefined && (names.has(found) || found.endsWith(".sock")) ? found : undefined;
}

function textsOf(source: string): { readonly content: string; readonly line: number }[] {
  const code = withoutComments(source);
  return [...code.matchAll(text)].map((match) => ({
    content: match[0].slice(1, -1),
    line: code.slice(0, match.index).split("\n").length,
  }));
}
