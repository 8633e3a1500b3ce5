/**
 * Waits for the end of other processes, also of those that are no children. The kernel reports it as an event: waiting
 * costs nothing meanwhile, for any number of processes, and the caller learns of the end at once.
 *
 * Each process is held by a pidfd in one epoll set. The runtime has no call to wait for such a descriptor. But it waits for
 * sockets, and a copy of the set's descriptor passes as one: when it becomes readable, the runtime reads from it, which fails,
 * and reports the connection as closed. That is the event; the next copy waits for the next one.
 *
 * Where the kernel gives no pidfd (before Linux 5.3), or watches have taken their share of this program's descriptors,
 * processes are looked up in /proc at intervals instead; {@link endEventsFault} says so.
 */
import { closeSync } from "node:fs";
import type { Clock } from "@bureau/kit/clock";
import { EpollSet } from "./epoll-set.ts";
import { descriptorsMax, duplicate, openProcess } from "./posix.ts";
import { isAlive, type ProcessId, signalProcess } from "./process-table.ts";

/** Below are the standard streams. */
const LOWEST_FD = 3;
/** Between two lookups of a process without a pidfd: a quarter of the time already waited, within these bounds. */
const LOOKUP_MS = { least: 2, most: 1_000 } as const;

/** Watches leave this many descriptors to the rest of the program, or half of them where it has few. */
const OTHER_FDS = 512;

/** While the runtime does not wait for the set, because there is no descriptor for a copy or it refuses the copy. */
const LOOK_MS = 1_000;

/** The runtime's types name these options, but its `connect` does not have them. */
const connectDescriptor = (options: Bun.FdSocketOptions): Promise<Bun.Socket> =>
  Bun.connect(options as unknown as Bun.UnixSocketOptions<undefined>);

/** Every watched process of this program. */
class ProcessEnds {
  readonly #set = new EpollSet();
  readonly #calls = new Map<number, () => void>();
  #armed = false;

  /** @throws BureauError */
  constructor() {
    this.#arm();
  }

  /** Watches the process behind a pidfd, and closes that; undefined when it cannot, and then does not. `ended` is called once. */
  add(fd: number, ended: () => void): Disposable | undefined {
    this.#arm();
    if (!this.#set.add(fd)) return undefined;
    this.#calls.set(fd, ended);
    return {
      // The number may be another process's meanwhile.
      [Symbol.dispose]: () => void (this.#calls.get(fd) === ended && this.#drop(fd)),
    };
  }

  #drop(fd: number): void {
    this.#calls.delete(fd);
    this.#set.remove(fd);
    closeSync(fd);
  }

  /** Has the runtime wait for the set; looks at the set itself, and tries again, while that is impossible. */
  #arm(): void {
    if (this.#armed) return;
    this.#armed = true;
    const later = (): void => void setTimeout(() => this.#closed(), LOOK_MS).unref();
    const copy = duplicate(this.#set.fd, LOWEST_FD);
    if (copy === undefined) {
      later();
      return;
    }
    // Not held open for this: a caller that must not end before has a timer for its limit.
    connectDescriptor({ fd: copy, socket: { data() {}, close: () => this.#closed() } }).then(
      (socket) => socket.unref(),
      later,
    );
  }

  #closed(): void {
    this.#armed = false;
    this.#report();
    if (this.#calls.size > 0) this.#arm();
  }

  #report(): void {
    for (let ready = this.#set.ready(); ready.length > 0; ready = this.#set.ready())
      for (const fd of ready) {
        const ended = this.#calls.get(fd);
        this.#drop(fd);
        // Its own turn: an error in one must not keep the others from being called.
        if (ended !== undefined) queueMicrotask(ended);
      }
  }
}

let opened: ProcessEnds | undefined;

/** Undefined when there is no descriptor left for it. */
function processEnds(): ProcessEnds | undefined {
  try {
    opened ??= new ProcessEnds();
  } catch {
    // The next watch tries again.
  }
  return opened;
}

let share: number | undefined;
/** The kernel gives the lowest free number: one from here on means that watches have taken their share. */
function isBeyondShare(fd: number): boolean {
  share ??= Math.max(descriptorsMax() - OTHER_FDS, descriptorsMax() / 2);
  return fd >= share;
}

/** Why the kernel does not report ends of processes here; undefined when it does. */
export function endEventsFault(): string | undefined {
  const own = openProcess(process.pid);
  if (typeof own === "string") return `pidfd_open: ${own}`;
  closeSync(own);
  return undefined;
}

/**
 * Calls `ended` once when the process has ended, also when it ended before, but never before this function returns. Does not
 * keep this program running. Disposal ends the watch.
 */
export function whenEnded(id: ProcessId, ended: () => void): Disposable {
  const fd = openProcess(id.pid);
  // Only now: the descriptor belongs to the process that is alive after it was opened.
  if (!isAlive(id)) {
    if (typeof fd === "number") closeSync(fd);
    return soon(ended);
  }
  if (typeof fd === "number") {
    const watch = isBeyondShare(fd) ? undefined : processEnds()?.add(fd, ended);
    if (watch !== undefined) return watch;
    closeSync(fd);
  }
  return lookUp(id, ended);
}

function soon(ended: () => void): Disposable {
  let call: (() => void) | undefined = ended;
  queueMicrotask(() => call?.());
  return {
    [Symbol.dispose]: () => {
      call = undefined;
    },
  };
}

function lookUp(id: ProcessId, ended: () => void): Disposable {
  const since = performance.now();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const next = (): void => {
    const waitMs = Math.max(LOOKUP_MS.least, (performance.now() - since) / 4);
    timer = setTimeout(() => (isAlive(id) ? next() : ended()), Math.min(waitMs, LOOKUP_MS.most));
    timer.unref();
  };
  next();
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}

/** Resolves true once the process is gone, false when `timeoutMs` passed or `signal` aborted first. */
export async function waitUntilGone(
  target: ProcessId,
  timeoutMs: number,
  clock: Clock,
  signal?: AbortSignal,
): Promise<boolean> {
  if (!isAlive(target)) return true;
  const over = new AbortController();
  const stop = (): void => over.abort();
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop, { once: true });
  let gone = false;
  using _watch = whenEnded(target, () => {
    gone = true;
    over.abort();
  });
  await clock.sleep(timeoutMs, over.signal);
  signal?.removeEventListener("abort", stop);
  return gone || !isAlive(target);
}

/** SIGTERM, then SIGKILL after `graceMs`; resolves when the process is gone. */
export async function stopProcess(target: ProcessId, graceMs: number, clock: Clock): Promise<void> {
  if (signalProcess(target, "SIGTERM") && (await waitUntilGone(target, graceMs, clock))) return;
  signalProcess(target, "SIGKILL");
  await waitUntilGone(target, 5_000, clock);
}
