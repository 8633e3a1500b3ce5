/**
 * What root does to files and folders where somebody else may change names at any moment: a name is looked at once, and
 * all else is done to what was opened.
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
import { replaceWith } from "@bureau/os/durable-file";

export type Ownership = { readonly uid: number; readonly gid: number; readonly mode: number };

/** Of a file that only root reads. */
export const forRoot: Ownership = { uid: 0, gid: 0, mode: 0o600 };

/** A file that was not there before; durable when it returns. */
export function writeNewFile(path: string, content: string | Uint8Array, ownership: Ownership): void {
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
  const fd = openSync(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0o600);
  try {
    writeFileSync(fd, content);
    setOwnershipOf(fd, ownership);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Puts a file in the place of what is at `path`, whole and with its owner at every moment; durable when it returns. */
export function replaceFile(path: string, content: string | Uint8Array, ownership: Ownership): void {
  replaceWith(path, (temporary) => writeNewFile(temporary, content, ownership));
}

/** Sets a folder's owner and mode, and surely that folder's: a link put in its place is refused. */
export function setOwnership(path: string, ownership: Ownership): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    setOwnershipOf(fd, ownership);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function setOwnershipOf(fd: number, { uid, gid, mode }: Ownership): void {
  fchownSync(fd, uid, gid);
  // After the owner, whose change clears set-user-ID bits.
  fchmodSync(fd, mode);
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
