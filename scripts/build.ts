/**
 * Makes `dist/`: one bundle a program, a launcher script for each, and the one runtime they share.
 *
 * ```
 * dist/current                     → builds/<id>, the newest; <id> comes from the content
 * dist/builds/<id>/lib/<program>/  main.js, bundles that it loads only when needed, and the bytecode of each (*.jsc)
 *                  bin/<program>   runs it on runtime/bun
 *                  runtime/bun     the pinned Bun, hard-linked where the file system allows
 *                  build.json      version, the SHA-256 of every program, arguments of the runtime, and the formats of a
 *                                  machine's files that they read and write (Nix's `buildenv` leaves out any
 *                                  manifest.json)
 * ```
 *
 * A build never changes: programs that run from it, and sandboxes that mount it, keep it while a newer one is made.
 * Nothing is built while no source is newer than the last build.
 */
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { digestOfFile, digestOfProgram, idOf, takesOver } from "../packages/os/src/build.ts";
import { runtimeArguments } from "../packages/os/src/runtime-command.ts";
import { type StateFormats, stateFormats } from "../packages/os/src/state-format.ts";
import { commandDeclarations } from "./command-declarations.ts";
import { findBun, root } from "./find-bun.mjs";
import { hasNix, showBuildToNix } from "./nix.ts";
import { laterBundles, programs } from "./programs.ts";

export const dist = join(root, "dist");
/** Touched when `dist/current` is up to date with the sources. */
const stamp = join(dist, "stamp");
/** Builds kept: they share the runtime, so one is about ten megabytes. */
const BUILDS_MAX = 20;

export type Manifest = {
  readonly version: string;
  readonly runtime: string;
  readonly runtime_arguments: readonly string[];
  readonly runtime_sha256: Readonly<Record<string, string>>;
  readonly takes_over: readonly string[];
  readonly programs: Readonly<Record<string, ProgramBuild>>;
  readonly state: StateFormats;
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
    const id = idOf(manifest);
    const target = join(dist, "builds", id);
    mkdirSync(join(dist, "builds"), { recursive: true });
    if (!existsSync(target)) renameSync(staging, target);
    const link = `${staging}.link`;
    symlinkSync(join("builds", id), link);
    renameSync(link, currentBuild);
    writeFileSync(stamp, "");
    // A source that changed during the build is newer than its start, so that the next call builds again.
    utimesSync(stamp, started, started);
    prune(join(dist, "builds"), id);
    return true;
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

/**
 * Makes a whole build in `folder`; returns its manifest. `plugins` may change sources; `state` then gives the formats of a
 * machine's files that the changed sources know.
 */
export async function buildInto(
  folder: string,
  plugins: readonly Bun.BunPlugin[] = [],
  state: StateFormats = stateFormats,
): Promise<string> {
  for (const name of ["bin", "lib", "runtime"]) mkdirSync(join(folder, name), { recursive: true });
  linkRuntime(join(folder, "runtime", "bun"));
  for (const [name, entry] of Object.entries(programs)) {
    const later = laterBundles[name] ?? [];
    const outdir = join(folder, "lib", name);
    await bundle(entry, "main", outdir, [...later.map(leaveOut), ...plugins]);
    for (const module of later) await bundle(module, basename(module, ".ts"), outdir, plugins);
    writeFileSync(join(folder, "bin", name), shim(name));
    chmodSync(join(folder, "bin", name), 0o755);
  }
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  return writeManifest(folder, {
    version,
    state,
    runtime_arguments: runtimeArguments,
    runtime_sha256: await runtimeDigests(join(folder, "runtime", "bun")),
    takes_over: takesOver,
  });
}

/** Writes what the manifest of the programs in `folder` is; returns it. */
export function writeManifest(
  folder: string,
  { version, state, ...given }: Omit<Manifest, "runtime" | "programs">,
): string {
  const entries = Object.keys(programs).map((name) => [name, describeProgram(join(folder, "lib", name))]);
  const manifest: Manifest = {
    version,
    runtime: Bun.version,
    ...given,
    programs: Object.fromEntries(entries),
    state,
  };
  const text = `${JSON.stringify(manifest, null, 2)}\n`;
  writeFileSync(join(folder, "build.json"), text);
  return text;
}

/**
 * Bundles one program with its bytecode, which the runtime takes in place of the source while the two match: it parses
 * nothing and decodes only the functions that run. That halves the time until a program runs. Bytecode of files needs
 * CommonJS, which has no `await` outside of functions and no chunks; what is imported dynamically is in the bundle and
 * is evaluated when it is needed. It is the same for every architecture and every time. Identifiers keep their names:
 * stack traces in logs stay readable.
 */
async function bundle(
  entry: string,
  name: string,
  outdir: string,
  plugins: readonly Bun.BunPlugin[],
): Promise<void> {
  const result = await Bun.build({
    entrypoints: [join(root, entry)],
    outdir,
    naming: `${name}.[ext]`,
    format: "cjs",
    bytecode: true,
    target: "bun",
    minify: { whitespace: true, syntax: true, identifiers: false },
    plugins: [commandDeclarations, ...plugins],
  });
  if (!result.success) throw new AggregateError(result.logs, `cannot bundle ${entry}`);
  if (readFileSync(join(outdir, `${name}.js`), "utf8").includes(root))
    throw new Error(
      `The bundle of ${entry} contains the path "${root}": use Bun.main in place of import.meta`,
    );
}

/** An import of `module` loads the bundle of that name in the same folder. */
const leaveOut = (module: string): Bun.BunPlugin => ({
  name: `leave out ${module}`,
  setup(builder) {
    const name = basename(module, ".ts");
    builder.onResolve({ filter: new RegExp(`^\\./${name}\\.ts$`, "u") }, () => ({
      path: `./${name}.js`,
      external: true,
    }));
  },
});

const describeProgram = (folder: string): ProgramBuild => ({
  sha256: digestOfProgram(folder),
  bytes: readdirSync(folder).reduce((sum, file) => sum + statSync(join(folder, file)).size, 0),
});

/**
 * Finds runtime and bundle through the folder it was called from, by name: in the Nix store `bin` may be a link into a path
 * that contains nothing else, so `bin/..` leads elsewhere. If there is no runtime, it follows links, one at a time, of itself
 * and of its folder. It resolves a build that is a link, since that link may move while a program runs. Called by an
 * absolute path of a build, it starts no process but the runtime.
 */
const shim = (name: string): string => `#!/bin/sh
# Runs ${name} on the runtime it was built with.
f=$0 l=
case $f in
  /*) ;;
  */*) f=$(CDPATH='' cd -- "\${f%/*}" && pwd)/\${f##*/} ;;
  *) f=$PWD/$f ;;
esac
d=\${f%/*/*}
until [ -x "$d/runtime/bun" ]; do
  if [ -h "$f" ]; then p=$f r=
  elif [ -h "\${f%/*}" ]; then p=\${f%/*} r=/\${f##*/}
  else
    l=$(readlink -f -- "$f")
    if [ "$l" = "$f" ]; then echo "${name}: there is no build of Bureau around $0" >&2; exit 127; fi
    p= r=
  fi
  if [ -n "$p" ]; then l=$(readlink -- "$p"); fi
  case $l in
    /*) f=$l$r ;;
    *) f=\${p%/*}/$l$r ;;
  esac
  d=\${f%/*/*}
done
if [ -n "$l" ] || [ -h "$d" ]; then d=$(CDPATH='' cd -P -- "$d" && pwd -P); fi
exec "$d/runtime/bun" ${runtimeArguments.join(" ")} "$d/lib/${name}/main.js" "$@"
`;

/** The runtime at `linked`, and those of other architectures that npm has installed: a deploy may send them. */
async function runtimeDigests(linked: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const arch of ["arm64", "x64"]) {
    const other = join(root, "node_modules", "@oven", `bun-linux-${arch}`, "bin", "bun");
    const path = arch === process.arch ? linked : other;
    if (existsSync(path)) found[arch] = await digestOfFile(path);
  }
  return found;
}

function linkRuntime(path: string): void {
  const bun = findBun();
  if (bun === undefined) throw new Error("no Bun in node_modules: run npm ci");
  linkOrCopy(bun, path);
  chmodSync(path, 0o755);
}

/** A second name for the same file, where the file system allows. */
export function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
  }
}

/** Removes the oldest of the builds in `folder` beyond those kept. */
export function prune(folder: string, current: string): void {
  const others = readdirSync(folder)
    .filter((id) => id !== current)
    .map((id) => ({ id, made: statSync(join(folder, id)).mtimeMs }))
    .sort((a, b) => b.made - a.made);
  for (const { id } of others.slice(BUILDS_MAX - 1))
    rmSync(join(folder, id), { recursive: true, force: true });
}

/** True when nothing that goes into a bundle is newer than the last build. */
function isFresh(): boolean {
  if (!existsSync(stamp) || !existsSync(join(currentBuild, "build.json"))) return false;
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
  if (!process.argv.includes("--quiet")) {
    console.log(
      built ? `dist/ built in ${Math.round(performance.now() - started)} ms` : "dist/ is up to date",
    );
    if (hasNix()) console.log(showBuildToNix(realpathSync(currentBuild)));
  }
}
