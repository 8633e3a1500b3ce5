/**
 * A machine's whole disk in memory: programs of this host with their libraries, files, and a first program. The
 * programs are those of this host, on another kernel.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readlinkSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { executeOk } from "../lab/execute.ts";

export type InitramfsRecipe = {
  /** Programs by name, found on PATH. */
  readonly programs: readonly string[];
  /** Folders and files copied to the same path. */
  readonly copied: readonly string[];
  /** Executables of this host whose libraries are needed, besides those of `programs`. */
  readonly executables: readonly string[];
  /** Host path → path inside. */
  readonly placed: Readonly<Record<string, string>>;
  /** Path inside → content. */
  readonly files: Readonly<Record<string, string>>;
  /** A shell script, run as the first process. */
  readonly init: string;
};

/** Makes the archive at `file`, its tree in `folder`, which is new. */
export async function makeInitramfs(recipe: InitramfsRecipe, folder: string, file: string): Promise<void> {
  for (const path of [
    "dev",
    "proc",
    "sys",
    "tmp",
    "run",
    "etc",
    "root",
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    "usr/lib64",
  ])
    mkdirSync(join(folder, path), { recursive: true });
  // As Debian has them.
  for (const name of ["bin", "sbin", "lib", "lib64"]) symlinkSync(`usr/${name}`, join(folder, name));
  for (const name of recipe.programs) await placeProgram(name, folder);
  for (const path of recipe.executables)
    for (const library of await librariesOf(path)) copyInto(folder, library, library);
  for (const path of recipe.copied) if (existsSync(path)) copyInto(folder, path, path);
  for (const [from, to] of Object.entries(recipe.placed)) copyInto(folder, from, to);
  for (const [path, text] of Object.entries(recipe.files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  writeFileSync(join(folder, "init"), recipe.init, { mode: 0o755 });
  // Not compressed: the guest's processor is software, and the archive never leaves this host.
  await executeOk(["sh", "-c", 'cd "$0" && find . | cpio -o -H newc -R 0:0 --quiet >"$1"', folder, file], {
    timeoutMs: 120_000,
  });
}

async function placeProgram(name: string, folder: string): Promise<void> {
  const path = Bun.which(name);
  if (path === null) throw new Error(`there is no program "${name}" on PATH`);
  const real = realpathSync(path);
  copyInto(folder, real, join("/usr/bin", name));
  for (const library of await librariesOf(real)) copyInto(folder, library, library);
}

/** The shared libraries of a program, and their loader. */
async function librariesOf(program: string): Promise<string[]> {
  const said = await executeOk(["ldd", program]);
  return [...said.matchAll(/(?:=>\s+|^\s+)(\/\S+)\s+\(/gm)].flatMap(([, path]) => path ?? []);
}

function copyInto(folder: string, from: string, to: string): void {
  const at = join(folder, inUsr(to));
  mkdirSync(dirname(at), { recursive: true });
  cpSync(realpathSync(from), at, { recursive: true, verbatimSymlinks: true });
}

/** `/lib/x` is `/usr/lib/x` wherever the first is a link. */
const inUsr = (path: string): string =>
  /^\/(?:s?bin|lib|lib64)\//.test(path) && isLink(`/${path.split("/")[1]}`) ? `/usr${path}` : path;

const isLink = (path: string): boolean => {
  try {
    return readlinkSync(path) !== "";
  } catch {
    return false;
  }
};
