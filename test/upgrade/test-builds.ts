/** Builds for tests: copies of the newest build, good and bad. */
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  linkSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { digestOfProgram, runtimeOf } from "@bureau/os/build";

const newest = resolve(import.meta.dirname, "../../dist/current");

export class TestBuilds implements Disposable {
  /** Their folder, one subfolder each. */
  readonly folder = mkdtempSync(join(tmpdir(), "bv-"));
  #count = 0;
  /** The runtime of each base, in this folder: every build that is made from it shares it, also from another file system. */
  readonly #runtimes = new Map<string, string>();

  constructor() {
    // Another user runs them.
    chmodSync(this.folder, 0o755);
  }

  /**
   * A build other than `base`: every program, or only the named ones, has other content, in a file beside its bundle, so
   * that the bundle still matches its bytecode. `spoil` changes it further before its manifest is written. It must remove
   * a runtime file before changing it, because that file is shared.
   */
  make(spoil: (path: string) => void = () => {}, only?: readonly string[], base = newest): string {
    const path = join(this.folder, `v${this.#count++}`);
    const from = realpathSync(base);
    cpSync(from, path, { recursive: true, filter: (source) => source !== runtimeOf(from) });
    shareFile(this.#runtimeFrom(from), runtimeOf(path));
    for (const name of only ?? readdirSync(join(path, "lib")))
      writeFileSync(join(path, "lib", name, "stamp"), `version ${this.#count}\n`);
    spoil(path);
    seal(path);
    return path;
  }

  #runtimeFrom(base: string): string {
    const known = this.#runtimes.get(base);
    if (known !== undefined) return known;
    const kept = join(this.folder, `runtime${this.#runtimes.size}`);
    shareFile(runtimeOf(base), kept);
    this.#runtimes.set(base, kept);
    return kept;
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A hundred megabytes, shared where both lie on one file system. */
function shareFile(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
  }
}

/** Updates the manifest to the current files. */
function seal(path: string): void {
  const file = join(path, "build.json");
  const manifest = JSON.parse(readFileSync(file, "utf8")) as {
    programs: Record<string, { sha256: string }>;
    runtime_sha256: Record<string, string>;
  };
  // Hashing the shipped runtime takes half a second, and its manifest has the hash already.
  const runtime = statSync(runtimeOf(path), { throwIfNoEntry: false });
  if (runtime !== undefined && runtime.ino !== statSync(runtimeOf(newest)).ino)
    manifest.runtime_sha256[process.arch] = createHash("sha256")
      .update(readFileSync(runtimeOf(path)))
      .digest("hex");
  for (const [name, program] of Object.entries(manifest.programs))
    program.sha256 = digestOfProgram(join(path, "lib", name));
  writeFileSync(file, JSON.stringify(manifest));
}

/** Puts `code` in front of a program, in effect unless it is only asked for its version. */
export const prepend =
  (program: string, code: string) =>
  (path: string): void => {
    const file = join(path, "lib", program, "main.js");
    // The runtime reads in the first line how to run the rest.
    const [first, ...rest] = readFileSync(file, "utf8").split("\n");
    const added = `if(!process.argv.includes("--version")){${code}}`;
    writeFileSync(file, [first, added, ...rest].join("\n"));
  };

/** Puts `by` in place of `what`, which must be there, in a program. */
export const replaceIn =
  (program: string, what: string, by: string) =>
  (path: string): void => {
    const file = join(path, "lib", program, "main.js");
    const text = readFileSync(file, "utf8");
    if (!text.includes(what)) throw new Error(`"${what}" is not in ${program}`);
    writeFileSync(file, text.replaceAll(what, by));
  };

/** Another program in the runtime's place. */
export const runtimeIs =
  (content: string | Uint8Array) =>
  (path: string): void => {
    rmSync(runtimeOf(path));
    writeFileSync(runtimeOf(path), content, { mode: 0o755 });
  };

/**
 * A runtime that works for `count` starts and is then changed by a line of shell, `what`, in
 * which \$0 is the runtime: a file that changes between its check and its execution.
 */
export const runtimeSpoilsItself =
  (count: number, what: string) =>
  (path: string): void => {
    const real = `${runtimeOf(path)}.real`;
    renameSync(runtimeOf(path), real);
    writeFileSync(
      runtimeOf(path),
      `#!/bin/sh
echo . >> "$0.count"
if [ "$(wc -l < "$0.count")" -ge ${count} ]; then ${what}; fi
exec "${real}" "$@"
`,
      { mode: 0o755 },
    );
  };

/** e_machine in the header of an ELF file (elf(5)), and a machine type that is never present: Motorola 68000. */
const [E_MACHINE, EM_68K] = [18, 4];

/** A complete program, but for another processor. */
export function foreignProgram(): Uint8Array {
  const bytes = readFileSync("/bin/true");
  bytes.writeUInt16LE(EM_68K, E_MACHINE);
  return bytes;
}

/** A complete program of this host with a missing loader. */
export function orphanProgram(): Uint8Array {
  const bytes = readFileSync("/bin/true");
  const at = bytes.indexOf("/ld-");
  if (at < 0) throw new Error("/bin/true names no loader");
  bytes.write("/no-", at);
  return bytes;
}
