/** The few system calls the runtime does not offer, through libc. Linux only. */
import { dlopen, FFIType } from "bun:ffi";
import { closeSync } from "node:fs";
import { BureauError } from "./errors.ts";

const openLibc = () =>
  dlopen("libc.so.6", {
    prctl: { args: [FFIType.i32, FFIType.u64, FFIType.u64, FFIType.u64, FFIType.u64], returns: FFIType.i32 },
    flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
    mkfifo: { args: [FFIType.cstring, FFIType.u32], returns: FFIType.i32 },
    socket: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
    setsockopt: {
      args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.u32],
      returns: FFIType.i32,
    },
    bind: { args: [FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
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

const AF_INET = 2;
const SOCK_STREAM_CLOEXEC = 0o2000001;
const SOL_SOCKET = 1;
const SO_REUSEPORT = 15;

/**
 * Holds a port of 127.0.0.1 without listening on it, for a program of the same user that listens with SO_REUSEPORT: while
 * that program is away nobody else can take the port and be spoken to in its place (socket(7): all who share a port
 * must ask for it and have the same user). @throws BureauError `conflict` when somebody has it
 */
export function reserveTcpPort(port: number): Disposable {
  const fd = libc().socket(AF_INET, SOCK_STREAM_CLOEXEC, 0);
  const address = new DataView(new ArrayBuffer(16));
  // struct sockaddr_in: family in host order, port and address in network order.
  address.setUint16(0, AF_INET, true);
  address.setUint16(2, port, false);
  address.setUint32(4, 0x7f000001, false);
  const on = new Int32Array([1]);
  const isHeld =
    fd >= 0 &&
    libc().setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, on, 4) === 0 &&
    libc().bind(fd, new Uint8Array(address.buffer), 16) === 0;
  if (!isHeld) {
    if (fd >= 0) closeSync(fd);
    throw new BureauError("conflict", `Cannot have port ${port} of 127.0.0.1: another program has it`);
  }
  return { [Symbol.dispose]: () => closeSync(fd) };
}

/** Makes a named pipe; `mode` is subject to the umask. */
export function makeFifo(path: string, mode: number): void {
  if (libc().mkfifo(Buffer.from(`${path}\0`), mode) !== 0)
    throw new BureauError("failed", `Cannot make the named pipe "${path}"`);
}
