/**
 * Makes `dist/`: one bundle a program, a launcher script for each, and the one runtime they share.
 *
 * ```
 * dist/current                     → builds/<id>, the newest; <id> comes from the content
 * dist/builds/<id>/lib/<program>/  main.js, and what it imports only when needed
 *                  bin/<program>   runs it on runtime/bun
 *                  runtime/bun     the pinned Bun, hard-linked where the file system allows
 *                  manifest.json   version, and the SHA-256 of every program
 * ```
 *
 * A build is never changed: what runs from one, and the sandboxes it is mounted into, keep it while a newer one is
 * made. Nothing is built while no source is newer than the last build.
 */
import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { findBun, root } from "./find-bun.mjs";
import { programs } from "./programs.ts";

const dist = join(root, "dist");
/** Touched when `dist/current` is up to date with the sources. */
const stamp = join(dist, "stamp");
/** Builds kept: they share the runtime, so one is about a megabyte. */
const BUILDS_MAX = 20;

export type Manifest = {
  readonly version: string;
  readonly runtime: string;
  readonly programs: Readonly<Record<string, ProgramBuild>>;
};
type ProgramBuild = { readonly sha256: string; readonly bytes: number };

/** The folder of the newest build. */
export const currentBuild = join(dist, "current");

/** Builds unless `dist/` is up to date. Returns whether it built. */
export async function build(options: { force?: boolean } = {}): Promise<boolean> {
  if (options.force !== true && isFresh()) return false;
  const started = new Date();
  const staging = join(dist, `staging-${randomBytes(4).toString("hex")}`);
  try {
    const manifest = await buildInto(staging);
    const id = createHash("sha256").update(manifest).digest("hex").slice(0, 12);
    const target = join(dist, "builds", id);
    mkdirSync(join(dist, "builds"), { recursive: true });
    if (!existsSync(target)) renameSync(staging, target);
    const link = `${staging}.link`;
    symlinkSync(join("builds", id), link);
    renameSync(link, currentBuild);
    writeFileSync(stamp, "");
    // A source changed while the build ran is newer than its start, and so builds again.
    utimesSync(stamp, started, started);
    prune(id);
    return true;
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

/** Makes a whole build in `folder`; returns its manifest. */
async function buildInto(folder: string): Promise<string> {
  for (const name of ["bin", "lib", "runtime"]) mkdirSync(join(folder, name), { recursive: true });
  linkRuntime(join(folder, "runtime", "bun"));
  const entries: Record<string, ProgramBuild> = {};
  for (const [name, entry] of Object.entries(programs)) {
    entries[name] = await bundle(entry, join(folder, "lib", name));
    writeFileSync(join(folder, "bin", name), shim(name));
    chmodSync(join(folder, "bin", name), 0o755);
  }
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  const manifest = `${JSON.stringify({ version, runtime: Bun.version, programs: entries } satisfies Manifest, null, 2)}\n`;
  writeFileSync(join(folder, "manifest.json"), manifest);
  return manifest;
}

/**
 * Bundles one program. What it imports dynamically becomes a file of its own, so that a command loads only its part.
 * Identifiers keep their names: stack traces in logs stay readable.
 */
async function bundle(entry: string, outdir: string): Promise<ProgramBuild> {
  const result = await Bun.build({
    entrypoints: [join(root, entry)],
    outdir,
    naming: { entry: "main.[ext]", chunk: "[hash].[ext]" },
    splitting: true,
    target: "bun",
    minify: { whitespace: true, syntax: true, identifiers: false },
  });
  if (!result.success) throw new AggregateError(result.logs, `cannot bundle ${entry}`);
  const hash = createHash("sha256");
  let bytes = 0;
  for (const file of readdirSync(outdir).sort()) {
    const content = readFileSync(join(outdir, file));
    hash.update(`${file}\0${content.length}\0`).update(content);
    bytes += content.length;
  }
  return { sha256: hash.digest("hex"), bytes };
}

const shim = (name: string): string => `#!/bin/sh
# Runs ${name} on the runtime it was built with.
d=\${0%/*}/..
exec "$d/runtime/bun" "$d/lib/${name}/main.js" "$@"
`;

function linkRuntime(path: string): void {
  const bun = findBun();
  if (bun === undefined) throw new Error("no Bun in node_modules: run npm ci");
  try {
    linkSync(bun, path);
  } catch {
    copyFileSync(bun, path);
    chmodSync(path, 0o755);
  }
}

/** Removes the oldest builds beyond those kept. */
function prune(current: string): void {
  const folder = join(dist, "builds");
  const others = readdirSync(folder)
    .filter((id) => id !== current)
    .map((id) => ({ id, made: statSync(join(folder, id)).mtimeMs }))
    .sort((a, b) => b.made - a.made);
  for (const { id } of others.slice(BUILDS_MAX - 1))
    rmSync(join(folder, id), { recursive: true, force: true });
}

/** True when nothing that goes into a bundle is newer than the last build. */
function isFresh(): boolean {
  if (!existsSync(stamp) || !existsSync(join(currentBuild, "manifest.json"))) return false;
  const built = statSync(stamp).mtimeMs;
  const sources = ["packages", "scripts", "package-lock.json", "package.json"];
  return sources.every((source) => newest(join(root, source)) <= built);
}

function newest(path: string): number {
  const stat = statSync(path);
  if (!stat.isDirectory()) return path.endsWith(".test.ts") ? 0 : stat.mtimeMs;
  const below = readdirSync(path).filter((entry) => entry !== "node_modules");
  return Math.max(0, ...below.map((entry) => newest(join(path, entry))));
}

if (import.meta.main) {
  const started = performance.now();
  const built = await build({ force: process.argv.includes("--force") });
  if (!process.argv.includes("--quiet"))
    console.log(
      built ? `dist/ built in ${Math.round(performance.now() - started)} ms` : "dist/ is up to date",
    );
}
