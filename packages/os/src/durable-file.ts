/**
 * Files that survive power loss: temp file in the same folder, fsync, rename, fsync of the folder.
 * Every durable write in Bureau goes through here; readers see the old content or the new, never a part.
 */
import {
  closeSync,
  fchmodSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { errnoOf } from "@bureau/kit/errors";

/** Replaces `path` with `content`; `mode` is exact: the umask does not change it. */
export function writeDurably(path: string, content: string | Uint8Array, mode: number): void {
  replaceFile(path, content, mode, true);
  syncPath(dirname(path));
}

/**
 * {@link writeDurably} for content that is worthless after a reboot: readers see the old content or the new, also when
 * the writer is killed, but the content may not be on the disk when it returns.
 */
export const writeAtomically = (path: string, content: string | Uint8Array, mode: number): void =>
  replaceFile(path, content, mode, false);

function replaceFile(path: string, content: string | Uint8Array, mode: number, sync: boolean): void {
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  put(path, (temporary) => {
    const fd = openSync(temporary, "wx", mode);
    try {
      fchmodSync(fd, mode);
      for (let offset = 0; offset < bytes.length; ) offset += writeSync(fd, bytes, offset);
      if (sync) fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  });
}

/**
 * Replaces `path` with the file or link that `make` creates beside it. Durable when it returns, if the new file itself
 * is.
 */
export function replaceWith(path: string, make: (temporary: string) => void): void {
  put(path, make);
  syncPath(dirname(path));
}

function put(path: string, make: (temporary: string) => void): void {
  const temporary = `${path}.${crypto.getRandomValues(new Uint8Array(6)).toHex()}.tmp`;
  try {
    make(temporary);
    renameSync(temporary, path);
  } catch (error) {
    removeIfPossible(temporary);
    throw ofPath(error, path);
  }
}

/** Errors of read and write do not name the file. */
function ofPath(error: unknown, path: string): unknown {
  if (error instanceof Error && !("path" in error)) Object.assign(error, { path });
  return error;
}

/** Removes the partial file, if any; only the original error matters. */
function removeIfPossible(temporary: string): void {
  try {
    rmSync(temporary, { force: true });
  } catch {}
}

/** The suffix repeats when the copy of a copy was cut off. */
const temporarySuffix = /^(.*?)(?:\.[0-9a-f]{12}\.tmp)+$/;

/** Removes the unfinished copies that a killed writer of `path` left; no other program uses such names. */
export const removeTemporaries = (path: string): void =>
  removeTemporariesIn(dirname(path), (name) => name === basename(path));

/** The same for all of a folder's files whose name `isOurs` accepts; no error when there is no such folder. */
export function removeTemporariesIn(
  folder: string,
  isOurs: (name: string, temporary: string) => boolean,
): void {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return;
    throw error;
  }
  for (const name of names) {
    const path = temporarySuffix.exec(name)?.[1];
    if (path !== undefined && isOurs(path, join(folder, name))) rmSync(join(folder, name), { force: true });
  }
}

/** Removes `path`, durably; no error when it, or its folder, is not there. */
export function removeDurably(path: string): void {
  rmSync(path, { force: true });
  try {
    syncPath(dirname(path));
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
}

/** The file's text, or undefined when there is none. Other failures throw. */
export function readIfPresent(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw ofPath(error, path);
  }
}

/** Makes a file's content, or a folder's renames and removals, survive power loss. */
export function syncPath(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
