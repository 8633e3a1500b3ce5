/**
 * The processes of one sandbox: pane shell → bubblewrap → its pid 1 → the program. Finds them at the start, ends them, and
 * checks that they ended. Killing pid 1 of a pid namespace kills every process in it, including reparented ones.
 */
import { existsSync, readFileSync } from "node:fs";
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { readIfPresent } from "@bureau/os/durable-file";
import type { SandboxPaths } from "@bureau/os/layout";
import { findInhabitants } from "@bureau/os/mounts";
import { waitUntilGone } from "@bureau/os/process-end";
import {
  argumentsOf,
  childrenOf,
  findByArguments,
  identify,
  isAlive,
  type ProcessId,
  signalProcess,
} from "@bureau/os/process-table";
import type { SandboxProcesses } from "./record.ts";

/** From the pane's start to the program's. Usually milliseconds; seconds on a host with little free memory. */
const START_MS_MAX = 10_000;
/** The interval between two looks is this part of the time that a start has taken, up to the maximum. */
const LOOKS_IN_TIME = 40;
const LOOK_MS_MAX = 10;
/** After SIGKILL. Only a process stuck in the kernel takes longer. */
const KILL_MS_MAX = 5_000;

/** The exit code from the script's file; undefined while there is no whole line in it. */
export function readExitCode(paths: SandboxPaths): number | undefined {
  const code = /^(\d{1,3})\n$/.exec(readIfPresent(paths.exitCode) ?? "")?.[1];
  return code === undefined ? undefined : Number(code);
}

/** bubblewrap reports an exit code of its own only when the program was executed. */
const wasExecuted = (paths: SandboxPaths): boolean =>
  /"exit-code"/.test(readIfPresent(paths.bwrapStatus) ?? "");

/** Resolves when the program runs, or ran; undefined when the sandbox ended without having run it. */
export async function untilProgramRuns(
  paths: SandboxPaths,
  shell: ProcessId,
  clock: Clock,
): Promise<SandboxProcesses | undefined> {
  let seen: SandboxProcesses = { shell };
  const running = await untilSeen(paths, shell, clock, () => {
    seen = findProcesses(paths, seen);
    return seen.program === undefined ? undefined : seen;
  });
  return running ?? (wasExecuted(paths) ? seen : undefined);
}

/** Resolves with the sandbox's pid 1 when `isBuilt` is true for it; undefined when the sandbox ended before. */
export function untilBuilt(
  paths: SandboxPaths,
  shell: ProcessId,
  clock: Clock,
  isBuilt: (initPid: number) => boolean,
): Promise<ProcessId | undefined> {
  let init: ProcessId | undefined;
  return untilSeen(paths, shell, clock, () => {
    init ??= initOf(paths);
    return init !== undefined && isBuilt(init.pid) ? init : undefined;
  });
}

/**
 * Resolves with the first result of `look`; undefined when the sandbox ended before. Looks every millisecond during a usual
 * start: the kernel reports no change of another process's mounts or program that the runtime could wait for.
 */
async function untilSeen<Seen>(
  paths: SandboxPaths,
  shell: ProcessId,
  clock: Clock,
  look: () => Seen | undefined,
): Promise<Seen | undefined> {
  const started = clock.monotonic();
  for (;;) {
    const ended = existsSync(paths.exitCode) || !isAlive(shell);
    const seen = look();
    if (seen !== undefined || ended) return seen;
    const elapsed = clock.monotonic() - started;
    if (elapsed > START_MS_MAX)
      throw new BureauError("timeout", `bubblewrap did not start the program within ${START_MS_MAX} ms`);
    await clock.sleep(Math.min(Math.max(1, elapsed / LOOKS_IN_TIME), LOOK_MS_MAX));
  }
}

/** Pid 1 of the sandbox, from what bubblewrap reports. */
function initOf(paths: SandboxPaths): ProcessId | undefined {
  const pid = /"child-pid":\s*(\d+)/.exec(readIfPresent(paths.bwrapStatus) ?? "")?.[1];
  return pid === undefined ? undefined : identify(Number(pid));
}

function findProcesses(paths: SandboxPaths, { shell, ...seen }: SandboxProcesses): SandboxProcesses {
  const bwrapPid = seen.bwrap === undefined ? childrenOf(shell.pid)[0] : undefined;
  const bwrap = seen.bwrap ?? (bwrapPid === undefined ? undefined : identify(bwrapPid));
  const init = seen.init ?? initOf(paths);
  const program = init === undefined ? undefined : executedChild(init.pid);
  return {
    shell,
    ...(bwrap === undefined ? {} : { bwrap }),
    ...(init === undefined ? {} : { init }),
    ...(program === undefined ? {} : { program }),
  };
}

/** Pid 1's first child, once it is the program and no longer a copy of bubblewrap. */
function executedChild(initPid: number): ProcessId | undefined {
  const pid = childrenOf(initPid)[0];
  if (pid === undefined) return undefined;
  const args = argumentsOf(pid);
  if (args.length === 0 || args.join("\0") === argumentsOf(initPid).join("\0")) return undefined;
  return identify(pid);
}

/**
 * bubblewrap and all processes in the sandbox that may still run. Not the shell, nor a command by which it writes the
 * exit code: without that command the exit code is lost. Where pid 1 is not on record the whole process table is
 * searched: bubblewrap's tie to its parent does not hold throughout its start, so only the mounts lead to a sandbox
 * that lost its shell then.
 */
export function processesInside(paths: SandboxPaths, known: SandboxProcesses | undefined): ProcessId[] {
  const { init, bwrap, program } = known ?? {};
  const inhabitants = init === undefined ? findInhabitants(paths.dir) : [];
  // Another process may have the pid of a dead bubblewrap. Its children are not ours.
  const children = bwrap !== undefined && isAlive(bwrap) ? childrenOf(bwrap.pid).map(identify) : [];
  return [init, ...children, bwrap, program, ...inhabitants].filter((id) => id !== undefined).filter(isAlive);
}

/** Every process of the sandbox that may still run, with or without a record of it: the shell and its commands, too. */
export function allProcesses(paths: SandboxPaths, known: SandboxProcesses | undefined): ProcessId[] {
  const shells = known === undefined ? shellsOf(paths) : [known.shell];
  const found: (ProcessId | undefined)[] = processesInside(paths, known);
  for (const shell of shells) {
    // Another process may have the pid of a dead shell. Its children are not ours.
    if (!isAlive(shell)) continue;
    for (const bwrap of childrenOf(shell.pid))
      found.push(...childrenOf(bwrap).map(identify), identify(bwrap));
  }
  return [...found, ...shells].filter((id) => id !== undefined).filter(isAlive);
}

/** A tmux server that a sandbox's command started has the script among its arguments too, but has more of them. */
const shellsOf = ({ script }: SandboxPaths): ProcessId[] =>
  findByArguments("/bin/sh", script).filter(({ pid }) => argumentsOf(pid).length === 2);

/** Each takes up to {@link KILL_MS_MAX}. The second finds processes that were starting; a third finds hardly any. */
const KILL_ROUNDS_MAX = 20;

/**
 * Kills every process of the sandbox, and searches again until it finds none, because some may have been starting. Kill the
 * tmux session first, which could start more. @throws BureauError when a process does not die
 */
export async function killAll(
  paths: SandboxPaths,
  known: SandboxProcesses | undefined,
  clock: Clock,
): Promise<void> {
  for (let round = 0; round < KILL_ROUNDS_MAX; round++) {
    const found = allProcesses(paths, known);
    if (found.length === 0) return;
    await killProcesses(found, clock);
  }
  throw new BureauError("failed", `Processes in "${paths.dir}" start faster than they are killed`);
}

/** Sends SIGKILL to all; resolves when all have ended. @throws BureauError when one does not die */
export async function killProcesses(ids: readonly ProcessId[], clock: Clock): Promise<void> {
  for (const id of ids) signalProcess(id, "SIGKILL");
  for (const id of ids)
    if (!(await waitUntilGone(id, KILL_MS_MAX, clock)))
      throw new BureauError("failed", `Process ${id.pid} did not die within ${KILL_MS_MAX} ms of SIGKILL`);
}

/**
 * Sends SIGTERM to the program, and SIGHUP to one that ignores SIGTERM, as interactive shells do.
 */
export function askToEnd(program: ProcessId): void {
  signalProcess(program, "SIGTERM");
  if (ignoresSignal(program.pid, 15)) signalProcess(program, "SIGHUP");
}

function ignoresSignal(pid: number, signal: number): boolean {
  try {
    const ignored = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "0";
    return ((BigInt(`0x${ignored}`) >> BigInt(signal - 1)) & 1n) === 1n;
  } catch {
    return false;
  }
}
