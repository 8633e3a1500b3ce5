/**
 * The build that this command runs from, ready to be sent to a host: its files with their SHA-256s, and one archive of
 * them. The same build always gives the same archive, byte for byte, so that an interrupted transfer can resume.
 *
 * The bundles run on any architecture; only the runtime is replaced for another one.
 */
import {
  createReadStream,
  createWriteStream,
  existsSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
} from "node:fs";
import { basename, join, relative } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip, createZstdCompress } from "node:zlib";
import { BureauError } from "@bureau/kit/errors";
import { digestOfFile } from "@bureau/os/build";
import { architectures } from "./host-problems.ts";

export type Codec = "zstd" | "gzip";
export type BuildFile = {
  /** Within the build, with slashes. */
  readonly path: string;
  readonly source: string;
  readonly bytes: number;
  readonly executable: boolean;
};
export type BuildArchive = { readonly path: string; readonly bytes: number; readonly sha256: string };

/** Names of files of a build are put into a shell script and a checksum list as they stand. */
const pathForm = /^[A-Za-z0-9_][A-Za-z0-9_./@+-]*$/u;
const RUNTIME = "runtime/bun";
/** Nix writes this into every environment. Only Nix reads it. */
const NIX_LEFTOVER = "manifest.nix";
const BLOCK = 512;
/** A ustar header has this much for a path (POSIX pax, "ustar Interchange Format"). */
const PATH_BYTES_MAX = 100;

export const manifestOf = (build: string): string => readFileSync(join(build, "build.json"), "utf8");

/** Architectures, as `uname -m` names them, that this build can be sent to, each with its runtime. */
export function runtimesOf(build: string): Map<string, string> {
  const found = new Map<string, string>();
  const here = process.arch === "arm64" ? "aarch64" : process.arch === "x64" ? "x86_64" : process.arch;
  // A checkout's build lies in dist/builds/<id>, below the packages that npm installed.
  const packages = join(realpathSync(build), "../../..", "node_modules", "@oven");
  for (const [machine, name] of Object.entries(architectures)) {
    const other = join(packages, `bun-linux-${name}`, "bin", "bun");
    if (machine === here) found.set(machine, join(build, RUNTIME));
    else if (existsSync(other)) found.set(machine, other);
  }
  return found;
}

/** Every file of the build for a host of architecture `machine`, in the order they are packed. */
export function buildFiles(build: string, machine: string): BuildFile[] {
  const runtime = runtimesOf(build).get(machine);
  if (runtime === undefined)
    throw new BureauError("unsupported", `Cannot bring Bureau to a ${machine} host: its runtime is not here`);
  const root = realpathSync(build);
  const walk = (folder: string): string[] =>
    readdirSync(folder).flatMap((name) => {
      const path = join(folder, name);
      // A build in the Nix store is made of links: their targets are sent.
      return statSync(path).isDirectory() ? walk(path) : name === NIX_LEFTOVER ? [] : [path];
    });
  return walk(root)
    .map((path) => {
      const inside = relative(root, path);
      const source = inside === RUNTIME ? runtime : path;
      const stat = statSync(source);
      if (!pathForm.test(inside) || inside.length > PATH_BYTES_MAX)
        throw new BureauError("unsupported", `The build "${basename(root)}" holds a file "${inside}"`);
      return { path: inside, source, bytes: stat.size, executable: (stat.mode & 0o100) !== 0 };
    })
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Lines for `sha256sum -c`. */
export async function checksums(files: readonly BuildFile[]): Promise<string> {
  const lines: string[] = [];
  for (const file of files) lines.push(`${await digestOfFile(file.source)}  ${file.path}\n`);
  return lines.join("");
}

/** Packs the files into `path`. */
export async function writeArchive(
  files: readonly BuildFile[],
  codec: Codec,
  path: string,
): Promise<BuildArchive> {
  const compress = codec === "zstd" ? createZstdCompress() : createGzip();
  await pipeline(Readable.from(tar(files)), compress, createWriteStream(path, { mode: 0o600 }));
  return { path, bytes: statSync(path).size, sha256: await digestOfFile(path) };
}

/** A ustar stream of folders and files; owner root, times zero. */
async function* tar(files: readonly BuildFile[]): AsyncGenerator<Uint8Array> {
  const made = new Set<string>();
  for (const file of files) {
    const parts = file.path.split("/");
    for (let depth = 1; depth < parts.length; depth++) {
      const folder = `${parts.slice(0, depth).join("/")}/`;
      if (!made.has(folder)) yield tarHeader(folder, 0, 0o755, "5");
      made.add(folder);
    }
    yield tarHeader(file.path, file.bytes, file.executable ? 0o755 : 0o644, "0");
    yield* createReadStream(file.source) as AsyncIterable<Uint8Array>;
    const rest = file.bytes % BLOCK;
    if (rest > 0) yield new Uint8Array(BLOCK - rest);
  }
  yield new Uint8Array(2 * BLOCK);
}

function tarHeader(path: string, bytes: number, mode: number, type: "0" | "5"): Uint8Array {
  const header = Buffer.alloc(BLOCK);
  const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, "0");
  header.write(path, 0);
  header.write(`${octal(mode, 7)}\0${octal(0, 7)}\0${octal(0, 7)}\0`, 100);
  header.write(`${octal(bytes, 11)}\0${octal(0, 11)}\0`, 124);
  header.write("        ", 148);
  header.write(type, 156);
  header.write("ustar\0" + "00", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${octal(sum, 6)}\0 `, 148);
  return header;
}
