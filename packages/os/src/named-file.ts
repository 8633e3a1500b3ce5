/**
 * Reads and writes files that the user names by a flag or an argument. An error names the file, the reason and the full
 * path; `-` means standard input when reading.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";
import { BureauError, errnoOf } from "@bureau/kit/errors";
import { describeErrno, fileError } from "@bureau/kit/file-error";
import { writeDurably } from "./durable-file.ts";

/** More than any template, credential or token; limits the read of a device or a log that was named by mistake. */
const NAMED_BYTES_MAX = 1_048_576;
/** Wait before another read when standard input, made non-blocking by another program, is empty. */
const STDIN_AGAIN_MS = 10;

/**
 * The text of a file. `what` names it in errors: `the password file`.
 * @throws BureauError
 */
export function readNamed(path: string, what: string): string {
  if (path === "") throw new BureauError("invalid-input", `Cannot read ${what}: no file is named`);
  const shown = path === "-" ? `${what} from standard input` : `${what} "${path}"`;
  const bytes = readBytes(path, shown);
  if (bytes.length > NAMED_BYTES_MAX)
    throw new BureauError("too-large", `Cannot read ${shown}: it has more than ${NAMED_BYTES_MAX} bytes`);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new BureauError("invalid-input", `Cannot read ${shown}: it is not text in UTF-8`);
  }
}

/** {@link readNamed}; undefined when there is no such file. */
export function readNamedIfPresent(path: string, what: string): string | undefined {
  try {
    return readNamed(path === "-" ? "./-" : path, what);
  } catch (error) {
    if (error instanceof BureauError && error.code === "not-found") return undefined;
    throw error;
  }
}

/** {@link readNamed} for a password, a token, a credential: without the line end after it, and never empty. */
export function readNamedSecret(path: string, what: string): string {
  const text = readNamed(path, what).trimEnd();
  if (text === "") throw new BureauError("invalid-input", `Cannot use ${what} "${path}": it is empty`);
  return text;
}

/** Replaces the file atomically. @throws BureauError */
export function writeNamed(path: string, text: string, mode: number, what: string, hint = ""): void {
  try {
    writeDurably(path, text, mode);
  } catch (error) {
    throw fileError(`Cannot write ${what} "${path}"`, error, hint === "" ? lookedFor(path) : hint);
  }
}

function readBytes(path: string, shown: string): Buffer {
  let fd: number | undefined;
  try {
    fd = path === "-" ? 0 : openSync(path, "r");
    if (fstatSync(fd).isDirectory())
      throw new BureauError("invalid-input", `Cannot read ${shown}: ${describeErrno("EISDIR")}`);
    return readAll(fd);
  } catch (error) {
    if (error instanceof BureauError) throw error;
    throw fileError(`Cannot read ${shown}`, error, lookedFor(path));
  } finally {
    if (fd !== undefined && fd !== 0) closeSync(fd);
  }
}

/** At most one byte more than {@link NAMED_BYTES_MAX}. */
function readAll(fd: number): Buffer {
  const chunks: Buffer[] = [];
  for (let size = 0; size <= NAMED_BYTES_MAX; ) {
    const chunk = Buffer.alloc(Math.min(65_536, NAMED_BYTES_MAX + 1 - size));
    const count = readSome(fd, chunk);
    if (count === 0) break;
    chunks.push(chunk.subarray(0, count));
    size += count;
  }
  return Buffer.concat(chunks);
}

function readSome(fd: number, chunk: Buffer): number {
  for (;;) {
    try {
      return readSync(fd, chunk);
    } catch (error) {
      if (errnoOf(error) !== "EAGAIN") throw error;
      Bun.sleepSync(STDIN_AGAIN_MS);
    }
  }
}

/** The meaning of a relative path depends on the working directory. */
const lookedFor = (path: string): string =>
  path === "-" || isAbsolute(path) ? "" : `its full path is ${resolve(path)}`;
