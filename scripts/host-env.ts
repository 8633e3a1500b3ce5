/**
 * `npm run -s build:host-env -- --print [--stamp TEXT] [--build DIR] [--out DIR] [--no-nix]`: makes one build
 * as one path that never changes: in the Nix store, or without Nix a folder. Both have the layout of a build,
 * `{bin,lib,runtime,build.json}`, and every command takes both. The path is the last line of standard output.
 *
 * ```
 * dist/host-env/folders/<id>/      the folder
 *               gcroots/newest     → the store path made last
 *                       previous   → the one before
 * ```
 *
 * A stamp changes the content of every program but not its behavior: a way to try an upgrade. The same sources and stamp
 * make the same path.
 */
import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { idOf } from "../packages/os/src/build.ts";
import { build, currentBuild, dist, linkOrCopy, type Manifest, prune, writeManifest } from "./build.ts";
import { buildWithNix, hasNix, keepPath } from "./nix.ts";

export type HostEnvOptions = {
  /** A build's folder. */
  readonly build: string;
  readonly stamp?: string | undefined;
  /** Where folders and roots are kept. */
  readonly out: string;
  readonly nix: boolean;
};

/** Makes the build; returns its path. */
export function makeHostEnv(options: HostEnvOptions): string {
  const { out } = options;
  const folder = makeFolder(options);
  return options.nix ? moveToStore(folder, join(out, "gcroots")) : folder;
}

const STAMP_FILE = "stamp";

/** A separate build that shares its files with the one it is made from. */
function makeFolder({ build, stamp, out }: HostEnvOptions): string {
  const folders = join(out, "folders");
  mkdirSync(folders, { recursive: true });
  const staging = join(out, `staging-${randomBytes(4).toString("hex")}`);
  try {
    linkFolder(realpathSync(build), staging);
    const manifest = stamp === undefined ? manifestOf(staging) : stampPrograms(staging, stamp);
    const target = join(folders, idOf(manifest));
    if (!existsSync(target)) renameSync(staging, target);
    prune(folders, idOf(manifest));
    return target;
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

function linkFolder(from: string, to: string): void {
  mkdirSync(to);
  for (const name of readdirSync(from)) {
    const [source, target] = [join(from, name), join(to, name)];
    if (statSync(source).isDirectory()) linkFolder(source, target);
    else linkOrCopy(realpathSync(source), target);
  }
}

const manifestOf = (folder: string): string => readFileSync(join(folder, "build.json"), "utf8");

/** Adds a file to every program; returns the resulting manifest. @throws when `stamp` is not one line of text */
function stampPrograms(folder: string, stamp: string): string {
  if (/[\p{Cc}\u2028\u2029]/u.test(stamp)) throw new Error("a stamp is one line of text");
  // A changed bundle would no longer match its bytecode, and start more slowly than what ships.
  for (const name of readdirSync(join(folder, "lib"))) {
    const path = join(folder, "lib", name, STAMP_FILE);
    // A stamp of the original build is hard-linked, and must not change there.
    rmSync(path, { force: true });
    writeFileSync(path, `${stamp}\n`);
  }
  const manifest = JSON.parse(manifestOf(folder)) as Manifest;
  const { version, state, runtime_arguments = [], runtime_sha256 = {}, takes_over = [] } = manifest;
  rmSync(join(folder, "build.json"));
  return writeManifest(folder, { version, state, runtime_arguments, runtime_sha256, takes_over });
}

/** The folder as a store path. The newest and the one before it are kept from garbage collection. */
function moveToStore(folder: string, roots: string): string {
  mkdirSync(roots, { recursive: true });
  const [newest, previous] = [join(roots, "newest"), join(roots, "previous")];
  const making = join(roots, "making");
  const path = buildWithNix(folder, making);
  const before = targetOf(newest);
  if (before !== path) {
    if (before !== undefined && existsSync(before)) keepPath(before, previous);
    keepPath(path, newest);
  }
  rmSync(making);
  return path;
}

function targetOf(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch {
    return undefined;
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      print: { type: "boolean" },
      stamp: { type: "string" },
      build: { type: "string" },
      out: { type: "string", default: join(dist, "host-env") },
      "no-nix": { type: "boolean", default: false },
    },
  });
  if (values.build === undefined) await build();
  const nix = hasNix() && !values["no-nix"];
  console.error(nix ? "making a path in the Nix store …" : "making a folder …");
  const from = resolve(values.build ?? currentBuild);
  const path = makeHostEnv({ build: from, stamp: values.stamp, out: resolve(values.out), nix });
  const { version, programs } = JSON.parse(manifestOf(path)) as Manifest;
  console.error(`Bureau ${version}, ${Object.keys(programs).length} programs`);
  console.log(path);
}

if (import.meta.main) await main();
