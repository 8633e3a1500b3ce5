/**
 * Files that root writes where somebody else may change names at any moment: a name is looked at once, and all else is done
 * to the open file.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  readFileSync,
  writeFileSync,
} from "node:fs";

export type Ownership = { readonly uid: number; readonly gid: number; readonly mode: number };

/** A file that was not there before; durable when it returns. */
export function writeNewFile(
  path: string,
  content: string | Uint8Array,
  { uid, gid, mode }: Ownership,
): void {
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
  const fd = openSync(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0o600);
  try {
    writeFileSync(fd, content);
    fchownSync(fd, uid, gid);
    // After the owner, whose change clears set-user-ID bits.
    fchmodSync(fd, mode);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** A file's bytes, and never those of what a link in its place leads to. */
export function readFileItself(path: string): Uint8Array {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}
