/** The few system calls the runtime does not offer, through libc. Linux only. */
import { dlopen, FFIType } from "bun:ffi";
import { BureauError } from "./errors.ts";

const openLibc = () =>
  dlopen("libc.so.6", {
    prctl: { args: [FFIType.i32, FFIType.u64, FFIType.u64, FFIType.u64, FFIType.u64], returns: FFIType.i32 },
    flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
    mkfifo: { args: [FFIType.cstring, FFIType.u32], returns: FFIType.i32 },
    poll: { args: [FFIType.ptr, FFIType.u64, FFIType.i32], returns: FFIType.i32 },
  }).symbols;
let opened: ReturnType<typeof openLibc> | undefined;
/** Opened at its first use, which many programs never come to. */
function libc(): ReturnType<typeof openLibc> {
  opened ??= openLibc();
  return opened;
}

const PR_SET_DUMPABLE = 4;
const LOCK_EX = 2;
const LOCK_NB = 4;
const POLLHUP = 0x10;
const POLLNVAL = 0x20;

/**
 * Closes this process's memory and environment (`/proc/<pid>/mem`, `environ`, ptrace, core dumps) to every other
 * process of the same user. What holds keys calls this before it reads them.
 */
export function makeUndumpable(): void {
  if (libc().prctl(PR_SET_DUMPABLE, 0n, 0n, 0n, 0n) !== 0)
    throw new BureauError(
      "unsupported",
      "Cannot protect this process's memory: prctl(PR_SET_DUMPABLE) failed",
    );
}

/** Takes an exclusive lock on an open file without waiting; false when another process holds it. */
export const tryLock = (fd: number): boolean => libc().flock(fd, LOCK_EX | LOCK_NB) === 0;

/**
 * True when the other end of a connected unix socket is closed for good, rather than only done with sending (poll(2),
 * POLLHUP). A descriptor that is not open counts as gone.
 */
export function hasHungUp(fd: number): boolean {
  // struct pollfd: int fd; short events; short revents. POLLHUP and POLLNVAL are reported unasked.
  const request = new DataView(new ArrayBuffer(8));
  request.setInt32(0, fd, true);
  if (libc().poll(new Uint8Array(request.buffer), 1n, 0) <= 0) return false;
  return (request.getInt16(6, true) & (POLLHUP | POLLNVAL)) !== 0;
}

/** Makes a named pipe; `mode` is subject to the umask. */
export function makeFifo(path: string, mode: number): void {
  if (libc().mkfifo(Buffer.from(`${path}\0`), mode) !== 0)
    throw new BureauError("failed", `Cannot make the named pipe "${path}"`);
}
