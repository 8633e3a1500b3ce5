/** The few system calls the runtime does not offer, through libc. Linux only. */
import { dlopen, FFIType, ptr, read } from "bun:ffi";
import { closeSync } from "node:fs";
import { constants as osConstants } from "node:os";
import { BureauError } from "@bureau/kit/errors";

const openLibc = () =>
  dlopen("libc.so.6", {
    prctl: { args: [FFIType.i32, FFIType.u64, FFIType.u64, FFIType.u64, FFIType.u64], returns: FFIType.i32 },
    flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
    mkfifo: { args: [FFIType.cstring, FFIType.u32], returns: FFIType.i32 },
    socket: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
    bind: { args: [FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
    poll: { args: [FFIType.ptr, FFIType.u64, FFIType.i32], returns: FFIType.i32 },
    fcntl: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
    prlimit: { args: [FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
    lckpwdf: { args: [], returns: FFIType.i32 },
    ulckpwdf: { args: [], returns: FFIType.i32 },
    listen: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
    getsockopt: {
      args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.ptr],
      returns: FFIType.i32,
    },
    dup2: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
    waitpid: { args: [FFIType.i32, FFIType.ptr, FFIType.i32], returns: FFIType.i32 },
    execve: { args: [FFIType.cstring, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
    syscall: {
      args: [FFIType.i64, FFIType.i64, FFIType.i64, FFIType.i64, FFIType.i64],
      returns: FFIType.i64,
    },
    __errno_location: { args: [], returns: FFIType.ptr },
    sendto: {
      args: [FFIType.i32, FFIType.ptr, FFIType.u64, FFIType.i32, FFIType.ptr, FFIType.u32],
      returns: FFIType.i64,
    },
  }).symbols;
let opened: ReturnType<typeof openLibc> | undefined;
/** Opened at its first use: many programs never need it. */
function libc(): ReturnType<typeof openLibc> {
  opened ??= openLibc();
  return opened;
}

const PR_SET_PDEATHSIG = 1;
const PR_SET_DUMPABLE = 4;
const SIGKILL = 9;
const LOCK_EX = 2;
const LOCK_NB = 4;
const POLLHUP = 0x10;
const POLLNVAL = 0x20;

/**
 * Closes this process's memory and environment (`/proc/<pid>/mem`, `environ`, ptrace, core dumps) to every other
 * process of the same user. Programs that hold keys call this before they read them.
 */
export function makeUndumpable(): void {
  if (libc().prctl(PR_SET_DUMPABLE, 0n, 0n, 0n, 0n) !== 0)
    throw new BureauError(
      "unsupported",
      "Cannot protect this process's memory: prctl(PR_SET_DUMPABLE) failed",
    );
}

/** Has the kernel kill this process when its parent dies (PR_SET_PDEATHSIG(2const)). */
export function dieWithParent(): void {
  if (libc().prctl(PR_SET_PDEATHSIG, BigInt(SIGKILL), 0n, 0n, 0n) !== 0)
    throw new BureauError("unsupported", "Cannot follow the parent process: prctl(PR_SET_PDEATHSIG) failed");
}

/** Takes an exclusive lock on an open file without waiting; false when another process holds it. */
export const tryLock = (fd: number): boolean => libc().flock(fd, LOCK_EX | LOCK_NB) === 0;

/**
 * Holds the lock that every tool takes before it changes the host's users and groups; waits for it up to 15 s
 * (lckpwdf(3)). Root only. @throws BureauError `unavailable`
 */
export function lockAccountFiles(): Disposable {
  if (libc().lckpwdf() !== 0)
    throw new BureauError(
      "unavailable",
      "Cannot lock the host's account files: another program is changing them",
      {
        hint: "when it is done, run this again",
      },
    );
  return { [Symbol.dispose]: () => void libc().ulckpwdf() };
}

/**
 * True when the other end of a connected unix socket is closed completely, and has not only stopped sending (poll(2),
 * POLLHUP). A descriptor that is not open counts as gone.
 */
export function hasHungUp(fd: number): boolean {
  // struct pollfd: int fd; short events; short revents. POLLHUP and POLLNVAL are reported unasked.
  const request = new DataView(new ArrayBuffer(8));
  request.setInt32(0, fd, true);
  if (libc().poll(new Uint8Array(request.buffer), 1n, 0) <= 0) return false;
  return (request.getInt16(6, true) & (POLLHUP | POLLNVAL)) !== 0;
}

/** asm-generic/socket.h: the same on the architectures Bureau runs on. */
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

/** The peer of a unix socket, as the kernel recorded it at connect. */
export type PeerCredentials = { readonly pid: number; readonly uid: number; readonly gid: number };

/**
 * The process, user and group at the other end of an accepted unix socket (unix(7), SO_PEERCRED). The process may have
 * ended since; its pid is 0 when it is in a pid namespace that this one does not see. Undefined when `fd` is not such a
 * socket.
 */
export function peerCredentials(fd: number): PeerCredentials | undefined {
  // struct ucred: pid, uid, gid.
  const credentials = new Uint32Array(3);
  const length = new Uint32Array([credentials.byteLength]);
  if (libc().getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length) !== 0) return undefined;
  const [pid = 0, uid = NO_ID, gid = NO_ID] = credentials;
  return uid === NO_ID ? undefined : { pid, uid, gid };
}

/** What the kernel reports of a socket that has no peer. */
const NO_ID = 0xffff_ffff;

const F_SETFD = 2;
const FD_CLOEXEC = 1;

/** Sets whether `exec` closes a descriptor, in this process and in those it starts. */
export function setCloseOnExec(fd: number, close: boolean): void {
  if (libc().fcntl(fd, F_SETFD, close ? FD_CLOEXEC : 0) !== 0)
    throw new BureauError("failed", `Cannot change the descriptor ${fd}: it is not open`);
}

/** F_DUPFD_CLOEXEC of fcntl.h: the lowest free number from the third argument on. */
const F_DUPFD_CLOEXEC = 1030;

/** Another number, at least `lowest`, for the same open file; closed by `exec`. Undefined when `fd` is not open. */
export function duplicate(fd: number, lowest: number): number | undefined {
  const copy = libc().fcntl(fd, F_DUPFD_CLOEXEC, lowest);
  return copy < 0 ? undefined : copy;
}

/** Makes `target` a duplicate of `fd` (dup2(2)) and closes what `target` was before; `exec` keeps it open. */
export function duplicateOnto(fd: number, target: number): void {
  if (libc().dup2(fd, target) !== target)
    throw new BureauError("failed", `Cannot put the descriptor ${fd} at ${target}`);
}

/** The errno of the last call, by name. Read it directly after that call. */
function errnoName(): string {
  const location = libc().__errno_location();
  const number = location === null ? 0 : read.i32(location, 0);
  const found = Object.entries(osConstants.errno).find(([, value]) => value === number);
  return found?.[0] ?? `errno ${number}`;
}

/** Numbers of resource.h: the same on the architectures Bureau runs on. */
const resources = { core: 4, nproc: 6, nofile: 7 } as const;

export type ProcessLimit = { readonly resource: keyof typeof resources; readonly most: number };

/**
 * Lowers the limits of one of our processes, which its children inherit (prlimit(2)); a limit that is already lower
 * stays.
 * @throws BureauError with the errno
 */
export function limitProcess(pid: number, limits: readonly ProcessLimit[]): void {
  for (const { resource, most } of limits) {
    const fail = (): BureauError =>
      new BureauError("failed", `Cannot limit "${resource}" of the process ${pid}: ${errnoName()}`);
    // struct rlimit: soft, then hard.
    const limit = new BigUint64Array(2);
    if (libc().prlimit(pid, resources[resource], null, limit) !== 0) throw fail();
    const wanted = limit.map((now) => (now > BigInt(most) ? BigInt(most) : now));
    if (libc().prlimit(pid, resources[resource], wanted, null) !== 0) throw fail();
  }
}

/** How many descriptors this process may have open. */
export function descriptorsMax(): number {
  const limit = new BigUint64Array(2);
  if (libc().prlimit(process.pid, resources.nofile, null, limit) !== 0) return 0;
  return Number(limit[0]);
}

/** NUL-terminated strings and the NULL-terminated table of pointers to them that execve(2) wants. */
function stringTable(strings: readonly string[]): { table: BigUint64Array; held: Buffer[] } {
  const held = strings.map((text) => Buffer.from(`${text}\0`));
  const table = new BigUint64Array(held.length + 1);
  held.forEach((bytes, index) => {
    table[index] = BigInt(ptr(bytes));
  });
  return { table, held };
}

/**
 * Replaces this process's program. Descriptors without close-on-exec stay open, which the runtime's own
 * `process.execve` does not do. @returns only when it failed, with the errno's name
 */
export function execve(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): string {
  const argv = stringTable(args);
  const pairs = Object.entries(env).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
  const envp = stringTable(pairs);
  libc().execve(Buffer.from(`${file}\0`), argv.table, envp.table);
  const errno = errnoName();
  // The tables point into these: they must live until here.
  return argv.held.length + envp.held.length < 0 ? "" : errno;
}

/** memfd_create(2): [x86-64, aarch64]. */
const SYS_MEMFD_CREATE = process.arch === "arm64" ? 279n : 319n;
const MFD_CLOEXEC = 1n;

/**
 * An open file in memory, without a path; closed by `exec` unless that is changed. @throws BureauError with the errno
 */
export function memoryFile(name: string): number {
  const text = Buffer.from(`${name}\0`);
  const fd = Number(libc().syscall(SYS_MEMFD_CREATE, BigInt(ptr(text)), MFD_CLOEXEC, 0n, 0n));
  if (fd >= 0) return fd;
  throw new BureauError("failed", `Cannot make the memory file "${name}": ${errnoName()}`);
}

const WNOHANG = 1;

/** Reaps a child that has ended, so that no zombie stays. True when no such child is left. */
export function reapChild(pid: number): boolean {
  const outcome = libc().waitpid(pid, new Int32Array(1), WNOHANG);
  return outcome === pid || outcome < 0;
}

/** The same on every architecture (syscalls(2)); older C libraries have no functions for them. */
const SYS_PIDFD_SEND_SIGNAL = 424n;
const SYS_PIDFD_OPEN = 434n;

export type HeldProcess = Disposable & {
  /** Kills it; false when it has already ended, or we may not signal it. */
  kill(): boolean;
};

/** A descriptor of the process with that pid, closed by `exec` (pidfd_open(2)); the errno's name when there is none. */
export function openProcess(pid: number): number | string {
  const fd = Number(libc().syscall(SYS_PIDFD_OPEN, BigInt(pid), 0n, 0n, 0n));
  return fd < 0 ? errnoName() : fd;
}

/**
 * A handle on the process with that pid: a later signal never reaches another process, also where /proc does not show
 * it. Undefined when there is no such process.
 */
export function holdProcess(pid: number): HeldProcess | undefined {
  const fd = openProcess(pid);
  if (typeof fd === "string") return undefined;
  return {
    kill: () =>
      Number(
        libc().syscall(SYS_PIDFD_SEND_SIGNAL, BigInt(fd), BigInt(osConstants.signals.SIGKILL), 0n, 0n),
      ) === 0,
    [Symbol.dispose]: () => closeSync(fd),
  };
}

/** keyctl(2): [x86-64, aarch64]. */
const SYS_KEYCTL = process.arch === "arm64" ? 219n : 250n;
const KEYCTL_JOIN_SESSION_KEYRING = 1n;

/**
 * Replaces the session keyring that this program inherited by an empty one: its children cannot use keys of the session
 * that started it (keyrings(7)). False where the kernel has no keyrings, or a container forbids them.
 */
export const joinSessionKeyring = (): boolean =>
  Number(libc().syscall(SYS_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, 0n, 0n, 0n)) >= 0;

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 0o2000002;
const MSG_NOSIGNAL = 0x4000;
/** sizeof(sockaddr_un.sun_path) (unix(7)). */
const SUN_PATH_BYTES = 108;

/** struct sockaddr_un: family in host order, then the path. */
function unixAddress(name: Buffer): Buffer {
  const address = Buffer.alloc(2 + SUN_PATH_BYTES);
  new DataView(address.buffer, address.byteOffset).setUint16(0, AF_UNIX, true);
  name.copy(address, 2);
  return address;
}

const SOCK_STREAM_NONBLOCK_CLOEXEC = 0o2004001;
/**
 * Clients that may wait while no program accepts, as during an exec; the kernel's own limit is
 * /proc/sys/net/core/somaxconn.
 */
const BACKLOG = 4_096;

/**
 * A listening unix socket at `path`, its file subject to the umask. Unlike a socket the runtime makes, closing it
 * leaves its file where it is, so it can be handed on. @throws BureauError with the errno
 */
export function listenAt(path: string): number {
  const name = Buffer.from(path);
  const fail = (reason: string): BureauError =>
    new BureauError("failed", `Cannot listen on "${path}": ${reason}`);
  if (name.length >= SUN_PATH_BYTES) throw fail(`a socket's path has at most ${SUN_PATH_BYTES - 1} bytes`);
  const fd = libc().socket(AF_UNIX, SOCK_STREAM_NONBLOCK_CLOEXEC, 0);
  if (fd < 0) throw fail(errnoName());
  if (libc().bind(fd, unixAddress(name), 2 + name.length) === 0 && libc().listen(fd, BACKLOG) === 0)
    return fd;
  const errno = errnoName();
  closeSync(fd);
  throw fail(errno);
}

/**
 * Sends one datagram to a unix socket; `@` begins an abstract name. The runtime has no such sockets.
 * @returns false when no program received it
 */
export function sendDatagram(path: string, text: string): boolean {
  const name = Buffer.from(path.startsWith("@") ? `\0${path.slice(1)}` : path);
  if (name.length > SUN_PATH_BYTES) return false;
  const address = unixAddress(name);
  const fd = libc().socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
  if (fd < 0) return false;
  try {
    const bytes = Buffer.from(text);
    const sent = libc().sendto(fd, bytes, BigInt(bytes.length), MSG_NOSIGNAL, address, 2 + name.length);
    return Number(sent) === bytes.length;
  } finally {
    closeSync(fd);
  }
}

/** Makes a named pipe; `mode` is subject to the umask. */
export function makeFifo(path: string, mode: number): void {
  if (libc().mkfifo(Buffer.from(`${path}\0`), mode) !== 0)
    throw new BureauError("failed", `Cannot make the named pipe "${path}"`);
}
