/** What each program's bundle is made of, so that growth is seen, and what must never be in some of them. */
import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import { packageOfModule } from "./check/source-graph.ts";
import { commandDeclarations } from "./command-declarations.ts";
import type { Violation } from "./dependency-arrows.ts";

/** Program → packages of ours that may not be in its closure: what holds keys parses no federation data. */
const forbidden: Readonly<Record<string, readonly string[]>> = {
  "bureau-launcher": ["matrix"],
  "bureau-proxy": ["matrix"],
};

/** Programs that open no HTTP connection: what holds the machine's key talks to local sockets alone. */
const withoutHttp: readonly string[] = ["bureau-launcher"];
const httpClient =
  /\bfetch\s*\(|(?:from|require\(|import\()\s*["'](?:node:)?https?2?["']|\bnew (?:XMLHttpRequest|WebSocket|EventSource)\b/u;

/** Package (`kit`, or a third party's name) → modules, and bytes they have in the minified bundle. */
type Closure = ReadonlyMap<string, { readonly modules: number; readonly bytes: number }>;

/** Bundles `entry` as the build does, in memory, and adds up its parts. @throws when it does not bundle */
async function closureOf(root: string, entry: string): Promise<{ closure: Closure; code: string }> {
  const result = await Bun.build({
    entrypoints: [join(root, entry)],
    target: "bun",
    minify: { whitespace: true, syntax: true, identifiers: false },
    plugins: [commandDeclarations],
    metafile: true,
    throw: false,
  });
  if (!result.success || result.metafile === undefined)
    throw new AggregateError(result.logs, `cannot bundle ${entry}: ${result.logs.map(String).join("; ")}`);
  const bundled = Object.values(result.metafile.outputs)[0]?.inputs ?? {};
  const closure = new Map<string, { modules: number; bytes: number }>();
  for (const path of Object.keys(result.metafile.inputs)) {
    const name = packageOfModule(relative(root, join(process.cwd(), path)));
    const sum = closure.get(name) ?? { modules: 0, bytes: 0 };
    closure.set(name, {
      modules: sum.modules + 1,
      bytes: sum.bytes + (bundled[path]?.bytesInOutput ?? 0),
    });
  }
  return { closure, code: (await result.outputs[0]?.text()) ?? "" };
}

/** Faults of one program's closure. */
function checkClosure(program: string, closure: Closure, code: string): Violation[] {
  const client = withoutHttp.includes(program) ? httpClient.exec(code)?.[0] : undefined;
  return [
    ...(forbidden[program] ?? [])
      .filter((name) => closure.has(name))
      .map((name) => `${program}: its closure holds packages/${name}, which it must never contain`),
    ...(client === undefined ? [] : [`${program}: its closure speaks HTTP: it contains ${client}`]),
  ];
}

/** One line a program: its sum, then its packages, the largest first. */
function describeClosure(program: string, closure: Closure): string {
  const parts = [...closure].sort(([, a], [, b]) => b.bytes - a.bytes);
  const sum = parts.reduce((total, [, part]) => total + part.bytes, 0);
  const modules = parts.reduce((total, [, part]) => total + part.modules, 0);
  const list = parts.map(([name, part]) => `${name} ${kilobytes(part.bytes)}/${part.modules}`).join(", ");
  return `${program.padEnd(18)} ${kilobytes(sum).padStart(6)} kB ${String(modules).padStart(4)} modules: ${list}`;
}

const kilobytes = (bytes: number): string => (bytes / 1000).toFixed(1);

/** The closures of the programs that exist, checked and described. */
export async function checkPrograms(
  root: string,
  programs: Readonly<Record<string, string>>,
): Promise<{ lines: string[]; violations: Violation[] }> {
  const lines: string[] = [];
  const violations: Violation[] = [];
  for (const [program, entry] of Object.entries(programs)) {
    if (!existsSync(join(root, entry))) {
      lines.push(`${program.padEnd(18)} (no ${entry} yet)`);
      continue;
    }
    try {
      const { closure, code } = await closureOf(root, entry);
      lines.push(describeClosure(program, closure));
      violations.push(...checkClosure(program, closure, code));
    } catch (error) {
      violations.push(`${program}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return { lines, violations };
}
