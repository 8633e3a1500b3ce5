/**
 * Replaces the daemon by another build in the same process: every subsystem finishes its work and returns what the next
 * program takes over, and that program is executed. A client that connects meanwhile waits; it is not refused. An open
 * stream is not cut.
 */
import type { Runtime } from "@bureau/kit/runtime";
import { argumentsFor, type Build, readBuild, runtimeOf, type TakenOver } from "@bureau/os/build";
import { replaceProcess } from "@bureau/os/exec";
import { type NamedSocket, pingWatchdog } from "@bureau/os/systemd";
import type { HandOver } from "../assembly/hand-over.ts";

/** Time to pause: a sandbox may be starting. */
export const PAUSE_MS_MAX = 30_000;
/** The reason when that time was not enough, and nothing is replaced. */
export const tooBusy = `starting or stopping a sandbox took more than ${PAUSE_MS_MAX / 1_000} s`;

export type BecomeDeps = Pick<Runtime, "log"> & {
  /** The handovers of all subsystems, in the order of their list. */
  readonly handOvers: readonly HandOver[];
  /** The daemon's command line, without the program. */
  readonly args: readonly string[];
  /** Aborts when this daemon must stop; checked until the next program is executed. */
  readonly signal: AbortSignal;
};

export type BecomeOptions = {
  /** Added to the next program's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Runs once every subsystem has paused. */
  readonly last?: () => Promise<unknown>;
  /** Leaves unsent messages to the next build, which may be able to send them. */
  readonly leavesMessages?: true;
};

/** Returns only on failure, with the reason; this daemon then continues as before. */
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
    if (deps.signal.aborted) return "this daemon is stopping";
    const next = readBuild(path);
    for (const { keep } of handOvers) keep?.();
    log.info("daemon.exec", "replacing this daemon", { by: path });
    pingWatchdog();
    const errno = execute(next, sockets, deps, options);
    return `"${runtimeOf(path)}" cannot be executed: ${errno}`;
  } finally {
    for (const { resume } of handOvers) await resume?.();
  }
}

/**
 * A build that cannot take over further sockets or streams gets none: it would hold them open without serving them.
 * exec closes them, and their clients connect again. Returns only on failure, with the errno.
 */
function execute(
  next: Build,
  sockets: readonly NamedSocket[],
  deps: BecomeDeps,
  options: BecomeOptions,
): string {
  const takes = (what: TakenOver): boolean => next.takesOver.includes(what);
  const save = deps.handOvers.find(({ streams }) => streams !== undefined)?.streams;
  // No other code runs from here to exec, so no stream changes.
  using streams = takes("streams") ? save?.() : undefined;
  return replaceProcess({
    file: runtimeOf(next.path),
    args: [...argumentsFor(next, "bureau-daemon"), ...deps.args],
    env: { ...process.env, ...options.env },
    sockets: takes("sockets") ? sockets : sockets.slice(0, 1),
    ...(streams === undefined ? {} : { keep: streams.keep, keepInPlace: streams.keepInPlace }),
  });
}
