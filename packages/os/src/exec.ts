/**
 * A program that replaces itself: the same process, with the same pid, children, cgroup and open socket, running other
 * code. Whoever connects meanwhile waits in the socket's queue and is answered by the new program.
 *
 * The runtime is executed directly, not through its shim: what can be known to fail (no such file, a wrong architecture)
 * then fails here, as an errno, and the old program goes on.
 */
import { closeSync } from "node:fs";
import { duplicate, duplicateOnto, execve, reapChild, setCloseOnExec } from "./posix.ts";
import { childrenOf } from "./process-table.ts";
import { handOn } from "./systemd.ts";

export type Replacement = {
  readonly file: string;
  /** Without the program's own name. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The listening socket, and whether its file is the program's own or a service manager's. */
  readonly socket: { readonly fd: number; readonly isOurs: boolean };
  /** Other descriptors the new program is told of by its environment. */
  readonly keep?: readonly number[];
};

/** @returns only when it failed, with the errno's name; then nothing has changed */
export function replaceProcess({ file, args, env, socket, keep = [] }: Replacement): string {
  const passed = handOn(socket.isOurs);
  // The runtime has something of its own there, which it needs back should this fail.
  const before = socket.fd === passed.at ? undefined : duplicate(passed.at, passed.at + 1);
  if (socket.fd === passed.at) setCloseOnExec(passed.at, false);
  else duplicateOnto(socket.fd, passed.at);
  for (const fd of keep) setCloseOnExec(fd, false);
  const errno = execve(file, [file, ...args], { ...env, ...passed.env });
  for (const fd of keep) setCloseOnExec(fd, true);
  if (before !== undefined) {
    duplicateOnto(before, passed.at);
    closeSync(before);
  }
  if (before !== undefined || socket.fd === passed.at) setCloseOnExec(passed.at, true);
  else closeSync(passed.at);
  return errno;
}

/** Between two looks at children the runtime does not know. */
const REAP_MS = 1_000;

/**
 * Takes in the ends of children that the program before us in this process has started: the runtime knows only its own.
 * To be called before anything is started. Costs a timer only while there are such children.
 */
export function reapInheritedChildren(): Disposable {
  const left = new Set(childrenOf(process.pid));
  if (left.size === 0) return { [Symbol.dispose]: () => {} };
  const timer = setInterval(() => {
    for (const pid of left) if (reapChild(pid)) left.delete(pid);
    if (left.size === 0) clearInterval(timer);
  }, REAP_MS);
  timer.unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
