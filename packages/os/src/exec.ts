/**
 * A program that replaces itself: the same process, with the same pid, children, cgroup and open sockets, runs other
 * code. A client that connects meanwhile waits in the socket's queue; the new program answers it.
 *
 * The runtime is executed directly, not through its shim. So a failure that can be known (a missing file, a wrong
 * architecture) is known here, as an errno, and the old program continues.
 */
import { closeSync } from "node:fs";
import { BureauError } from "@bureau/kit/errors";
import { duplicate, duplicateOnto, execve, reapChild, setCloseOnExec } from "./posix.ts";
import { whenEnded } from "./process-end.ts";
import { childrenOf, identify } from "./process-table.ts";
import { FIRST_FD, type NamedSocket, socketVariables } from "./systemd.ts";

export type Replacement = {
  readonly file: string;
  /** Without the program's own name. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Listening sockets. Builds without `takes_over` in their manifest find only one: pass only one to them. */
  readonly sockets: readonly NamedSocket[];
  /** Descriptors for the new program, by the environment variable that names each. It may get another number. */
  readonly keep?: Readonly<Record<string, number>>;
  /** Descriptors that keep their number; at least {@link FD_KEPT_LEAST}. */
  readonly keepInPlace?: readonly number[];
};

/** The least number of a descriptor that is kept: lower ones are for listening sockets and the runtime's own. */
export const FD_KEPT_LEAST = 64;

/** @returns only when it failed, with the errno's name; then nothing has changed */
export function replaceProcess(replacement: Replacement): string {
  const { file, args, env, sockets, keep = {}, keepInPlace = [] } = replacement;
  const targets = sockets.map((_, index) => FIRST_FD + index);
  // The runtime has descriptors of its own there. It needs them back when exec fails.
  const before = targets.map((target) => duplicate(target, FD_KEPT_LEAST));
  // The number of one socket may be the target of another.
  const copies = sockets.map(({ fd }) => copyOf(fd));
  const kept = Object.entries(keep).map(([variable, fd]) => [variable, copyOf(fd)] as const);
  for (const [index, fd] of copies.entries()) duplicateOnto(fd, FIRST_FD + index);
  const survivors = [...kept.map(([, fd]) => fd), ...keepInPlace];
  for (const fd of survivors) setCloseOnExec(fd, false);
  const errno = execve(file, [file, ...args], {
    ...env,
    ...socketVariables(sockets),
    ...Object.fromEntries(kept.map(([variable, fd]) => [variable, String(fd)])),
  });
  for (const fd of survivors) setCloseOnExec(fd, true);
  for (const fd of [...copies, ...kept.map(([, copy]) => copy)]) closeSync(fd);
  for (const [index, target] of targets.entries()) restore(target, before[index]);
  return errno;
}

function copyOf(fd: number): number {
  const copy = duplicate(fd, FD_KEPT_LEAST);
  if (copy === undefined) throw new BureauError("failed", `Cannot keep the descriptor ${fd}: it is not open`);
  return copy;
}

/** Puts `before` back at `target`. */
function restore(target: number, before: number | undefined): void {
  if (before === undefined) closeSync(target);
  else {
    duplicateOnto(before, target);
    setCloseOnExec(target, true);
    closeSync(before);
  }
}

/**
 * Reaps the children that the program before this one started in this process, when they end: the runtime reaps only its
 * own. Call it before this program starts any.
 */
export function reapInheritedChildren(): Disposable {
  const watches = new DisposableStack();
  for (const pid of childrenOf(process.pid)) {
    const id = identify(pid);
    if (id === undefined) reapChild(pid);
    else watches.use(whenEnded(id, () => void reapChild(pid)));
  }
  return watches;
}
