/**
 * The daemon becomes another build of itself: every subsystem finishes what is under way, gives what the next program
 * takes, and that program is executed in this process. A client that connects meanwhile waits; it is not refused. An open
 * stream is not cut.
 */
import type { Runtime } from "@bureau/kit/runtime";
import { argumentsFor, type Build, readBuild, runtimeOf, type TakenOver } from "@bureau/os/build";
import { replaceProcess } from "@bureau/os/exec";
import { type NamedSocket, pingWatchdog } from "@bureau/os/systemd";
import type { HandOver } from "../assembly/hand-over.ts";

/** Starting a sandbox may be under way. */
export const PAUSE_MS_MAX = 30_000;
/** Why nothing is replaced when that was not enough. */
export const tooBusy = `starting or stopping a sandbox took more than ${PAUSE_MS_MAX / 1_000} s`;

export type BecomeDeps = Pick<Runtime, "log"> & {
  /** Every subsystem's, in the order of their list. */
  readonly handOvers: readonly HandOver[];
  /** The daemon's command line, without the program. */
  readonly args: readonly string[];
  /** Until the other is executed this one may still be told to stop. */
  readonly signal: AbortSignal;
};

export type BecomeOptions = {
  /** Added to the next program's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Runs once every subsystem has paused. */
  readonly last?: () => Promise<unknown>;
  /** Unsent messages are left to the other build, which may be the one that can send them. */
  readonly leavesMessages?: true;
};

/** Returns only when it failed, with the reason; then this daemon continues as before. */
export async function become(path: string, deps: BecomeDeps, options: BecomeOptions = {}): Promise<string> {
  const { handOvers, log } = deps;
  try {
    for (const { pause } of [...handOvers].reverse()) {
      const reason = await pause?.({ leavesMessages: options.leavesMessages === true });
      if (reason !== undefined) return reason;
    }
    await options.last?.();
    const sockets: NamedSocket[] = [];
    for (const { give } of handOvers) {
      const given = await give?.();
      if (typeof given === "string") return given;
      sockets.push(...(given?.sockets ?? []));
    }
    if (deps.signal.aborted) return "this daemon was told to stop";
    const next = readBuild(path);
    for (const { keep } of handOvers) keep?.();
    log.info("daemon.exec", "this daemon is replaced", { by: path });
    pingWatchdog();
    const errno = execute(next, sockets, deps, options);
    return `"${runtimeOf(path)}" cannot be executed: ${errno}`;
  } finally {
    for (const { resume } of handOvers) await resume?.();
  }
}

/**
 * A build that does not take them over gets neither further sockets nor streams: it would hold them open without serving
 * them. exec closes them, and their clients connect again. Returns only when it failed, with the errno.
 */
function execute(
  next: Build,
  sockets: readonly NamedSocket[],
  deps: BecomeDeps,
  options: BecomeOptions,
): string {
  const takes = (what: TakenOver): boolean => next.takesOver.includes(what);
  const save = deps.handOvers.find(({ streams }) => streams !== undefined)?.streams;
  // From here to exec nothing else runs, so no stream changes.
  using streams = takes("streams") ? save?.() : undefined;
  return replaceProcess({
    file: runtimeOf(next.path),
    args: [...argumentsFor(next, "bureau-daemon"), ...deps.args],
    env: { ...process.env, ...options.env },
    sockets: takes("sockets") ? sockets : sockets.slice(0, 1),
    ...(streams === undefined ? {} : { keep: streams.keep, keepInPlace: streams.keepInPlace }),
  });
}
