/** Locks between processes, on a file. The kernel releases a lock when its holder ends, for any reason. */
import { closeSync, constants, fstatSync, openSync, statSync } from "node:fs";
import type { Clock } from "@bureau/kit/clock";
import { setCloseOnExec, tryLock } from "./posix.ts";

export type FileLock = Disposable & {
  /** Passes the lock without a gap to the program that replaces this process: see {@link inheritedFileLock}. */
  readonly fd: number;
};

/** Takes the lock, or returns undefined when another process has it. The file is made when missing, and stays. */
export function tryFileLock(path: string): FileLock | undefined {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  if (!tryLock(fd)) {
    closeSync(fd);
    return undefined;
  }
  return lockOf(fd);
}

const lockOf = (fd: number): FileLock => ({ fd, [Symbol.dispose]: () => closeSync(fd) });

/** The lock at `path` that the previous program left open as `fd`; undefined when `fd` is another file. */
export function inheritedFileLock(path: string, fd: number): FileLock | undefined {
  try {
    const [left, file] = [fstatSync(fd), statSync(path)];
    if (left.dev !== file.dev || left.ino !== file.ino || !tryLock(fd)) return undefined;
  } catch {
    return undefined;
  }
  setCloseOnExec(fd, true);
  return lockOf(fd);
}

const RETRY_MS = 10;

/** Waits for the lock; undefined when another process still has it after `timeoutMs`. */
export async function waitForFileLock(
  path: string,
  timeoutMs: number,
  clock: Clock,
): Promise<FileLock | undefined> {
  const deadline = clock.monotonic() + timeoutMs;
  for (;;) {
    const lock = tryFileLock(path);
    if (lock !== undefined || clock.monotonic() > deadline) return lock;
    await clock.sleep(RETRY_MS);
  }
}
