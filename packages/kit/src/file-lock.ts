/** Locks between processes: a file whose lock the kernel lets go of when its holder ends, however it ends. */
import { closeSync, constants, openSync } from "node:fs";
import type { Clock } from "./clock.ts";
import { tryLock } from "./posix.ts";

export type FileLock = Disposable;

/** Takes the lock, or returns undefined when another process has it. The file is made when missing, and stays. */
export function tryFileLock(path: string): FileLock | undefined {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  if (!tryLock(fd)) {
    closeSync(fd);
    return undefined;
  }
  return { [Symbol.dispose]: () => closeSync(fd) };
}

const RETRY_MS = 10;

/** Waits for the lock; undefined when somebody still has it after `timeoutMs`. */
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
