/** The few system calls the runtime does not offer, through libc. Linux only. */
import { dlopen, FFIType } from "bun:ffi";
import { BureauError } from "./errors.ts";

const libc = dlopen("libc.so.6", {
  prctl: { args: [FFIType.i32, FFIType.u64, FFIType.u64, FFIType.u64, FFIType.u64], returns: FFIType.i32 },
  flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
});

const PR_SET_DUMPABLE = 4;
const LOCK_EX = 2;
const LOCK_NB = 4;

/**
 * Closes this process's memory and environment (`/proc/<pid>/mem`, `environ`, ptrace, core dumps) to every other
 * process of the same user. What holds keys calls this before it reads them.
 */
export function makeUndumpable(): void {
  if (libc.symbols.prctl(PR_SET_DUMPABLE, 0n, 0n, 0n, 0n) !== 0)
    throw new BureauError(
      "unsupported",
      "Cannot protect this process's memory: prctl(PR_SET_DUMPABLE) failed",
    );
}

/** Takes an exclusive lock on an open file without waiting; false when another process holds it. */
export const tryLock = (fd: number): boolean => libc.symbols.flock(fd, LOCK_EX | LOCK_NB) === 0;
