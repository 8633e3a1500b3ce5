/**
 * Makes `dist/`: one bundle a program, a launcher script for each, and the one runtime they share.
 *
 * ```
 * dist/lib/<program>.js      the bundle; its SHA-256 stands in dist/manifest.json
 * dist/bin/<program>         runs it on dist/runtime/bun
 * dist/runtime/bun           the pinned Bun, hard-linked where the file system allows
 * ```
 *
 * The folder is built beside the old one and swapped in by rename, so that programs running from it never see half of
 * a build, and nothing is rebuilt while no source is newer than the last build.
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
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { findBun, root } from "./find-bun.mjs";
import { programs } from "./programs.ts";

const dist = join(root, "dist");
const manifestFile = join(dist, "manifest.json");

export type Manifest = {
  readonly version: string;
  readonly runtime: string;
  /** Program → SHA-256 of its bundle, hex. */
  readonly programs: Readonly<Record<string, { readonly sha256: string; readonly bytes: number }>>;
};

/** Builds unless `dist/` is up to date. Returns whether it built. */
export async function build(options: { force?: boolean } = {}): Promise<boolean> {
  if (options.force !== true && isFresh()) return false;
  const staging = `${dist}.${randomBytes(4).toString("hex")}`;
  try {
    for (const folder of ["bin", "lib", "runtime"]) mkdirSync(join(staging, folder), { recursive: true });
    linkRuntime(join(staging, "runtime", "bun"));
    const entries: Record<string, { sha256: string; bytes: number }> = {};
    for (const [name, entry] of Object.entries(programs)) {
      if (!existsSync(join(root, entry))) throw new Error(`program ${name} has no ${entry}`);
      const text = await bundle(entry);
      writeFileSync(join(staging, "lib", `${name}.js`), text);
      writeFileSync(join(staging, "bin", name), shim(name));
      chmodSync(join(staging, "bin", name), 0o755);
      entries[name] = {
        sha256: createHash("sha256").update(text).digest("hex"),
        bytes: Buffer.byteLength(text),
      };
    }
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    const manifest: Manifest = { version, runtime: Bun.version, programs: entries };
    writeFileSync(join(staging, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    const old = `${staging}.old`;
    if (existsSync(dist)) renameSync(dist, old);
    renameSync(staging, dist);
    rmSync(old, { recursive: true, force: true });
    return true;
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

async function bundle(entry: string): Promise<string> {
  const result = await Bun.build({
    entrypoints: [join(root, entry)],
    target: "bun",
    minify: { whitespace: true, syntax: true, identifiers: false },
  });
  if (!result.success) throw new AggregateError(result.logs, `cannot bundle ${entry}`);
  const [output] = result.outputs;
  if (output === undefined) throw new Error(`bundling ${entry} gave nothing`);
  return output.text();
}

function shim(name: string): string {
  return `#!/bin/sh\n# Runs ${name} on the runtime it was built with.\nd=\${0%/*}/..\nexec "$d/runtime/bun" "$d/lib/${name}.js" "$@"\n`;
}

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

/** True when nothing that goes into a bundle is newer than the last build. */
function isFresh(): boolean {
  if (!existsSync(manifestFile)) return false;
  const built = statSync(manifestFile).mtimeMs;
  const sources = ["packages", "scripts", "package-lock.json", "package.json"];
  return sources.every((source) => newest(join(root, source)) <= built);
}

function newest(path: string): number {
  const stat = statSync(path);
  if (!stat.isDirectory()) return /\.test\.ts$/.test(path) ? 0 : stat.mtimeMs;
  let latest = 0;
  for (const entry of readdirSync(path))
    if (entry !== "node_modules") latest = Math.max(latest, newest(join(path, entry)));
  return latest;
}

if (import.meta.main) {
  const started = performance.now();
  const built = await build({ force: process.argv.includes("--force") });
  if (!process.argv.includes("--quiet"))
    console.log(
      built ? `dist/ built in ${Math.round(performance.now() - started)} ms` : "dist/ is up to date",
    );
}
