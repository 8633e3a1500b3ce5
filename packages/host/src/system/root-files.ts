/**
 * How root changes files and folders where another user may change names at any moment: it opens a name once, and does
 * everything else to what it opened.
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

/** Replaces what is at `path` with a file, which is whole and has its owner at every moment; durable when it returns. */
export function replaceFile(path: string, content: string | Uint8Array, ownership: Ownership): void {
  replaceWith(path, (temporary) => writeNewFile(temporary, content, ownership));
}

/** Sets a folder's owner and mode. Refuses a link in its place. */
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

/** A file's bytes. Refuses a link in its place. */
export function readFileItself(path: string): Uint8Array {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}
