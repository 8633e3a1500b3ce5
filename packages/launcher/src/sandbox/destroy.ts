/**
 * Ends sandboxes: `recordExit` after their program ended, `destroySandbox` on request. `clearSandbox` removes everything of
 * a sandbox, with or without a record, and may run repeatedly. All of them run under the principal's lock.
 */
import { rmSync } from "node:fs";
import { BureauError } from "@bureau/kit/errors";
import { type SandboxPaths, tmuxSession } from "@bureau/os/layout";
import { waitUntilGone } from "@bureau/os/process-end";
import { isAlive, type ProcessId } from "@bureau/os/process-table";
import type { SandboxExit } from "@bureau/schema/launcher-ipc";
import type { PrincipalName } from "@bureau/schema/refs";
import { exitOf, exitOutputOf, finalScreen, lostExit, saveLastScreen } from "./exit-account.ts";
import type { SandboxRecord } from "./record.ts";
import { groupName, pathsOf, type SandboxHost } from "./sandbox-host.ts";
import {
  allProcesses,
  askToEnd,
  killAll,
  killProcesses,
  processesInside,
  readExitCode,
} from "./sandbox-processes.ts";

/** Between SIGTERM and SIGKILL (section 12.2). */
export const GRACE_MS = 5_000;
/** A shell's exit code for SIGKILL. */
const KILLED = 137;
/** For the shell to write the exit code after bubblewrap ended: it starts a process for that. */
const EXIT_CODE_MS_MAX = 10_000;

/** True when its program has ended, or its terminal or sandbox was killed. */
export function hasEnded(host: SandboxHost, { principal, processes }: SandboxRecord): boolean {
  const lives = (id: ProcessId | undefined): boolean => id !== undefined && isAlive(id);
  if (!lives(processes?.shell) || !lives(processes?.bwrap)) return true;
  return readExitCode(pathsOf(host, principal)) !== undefined;
}

/** Records the exit of an ended program, for `destroy-sandbox` to return; does nothing while it runs. */
export async function recordExit(host: SandboxHost, principal: PrincipalName): Promise<void> {
  const record = host.table.get(principal);
  if (record?.phase !== "running" || !hasEnded(host, record)) return;
  const paths = pathsOf(host, principal);
  const code = await writtenExitCode(host, paths, record.processes?.shell);
  const exit =
    code === undefined
      ? lostExit("its terminal or its sandbox was killed", host.clock)
      : withCause(host, principal, exitOf(code, host.clock));
  // Also ends what the program left running. The shell exits after the terminal has read all output.
  const { init, program } = record.processes ?? {};
  const inside = [init, program].filter((id) => id !== undefined).filter(isAlive);
  const left = code === undefined ? allProcesses(paths, record.processes) : inside;
  host.groups.kill(groupName(principal));
  await killProcesses(left, host.clock);
  const screen = await finalScreen(host, principal);
  if (screen !== undefined) saveLastScreen(host, principal, screen);
  const output = exit.code !== 0 && screen !== undefined ? { output: exitOutputOf(screen) } : {};
  host.table.put({ ...record, phase: "exited", exit: { ...exit, ...output } });
  host.watch.delete(principal);
  host.log.info("sandbox.exited", "sandbox ended", {
    principal,
    code: exit.code,
    description: exit.description,
  });
  if (record.proxy !== undefined) await host.proxies.stop(record.proxy);
}

/** Adds the limit that ended the sandbox: the signal does not explain it. */
function withCause(host: SandboxHost, principal: PrincipalName, exit: SandboxExit): SandboxExit {
  if (exit.code === 0 || !host.groups.ranOutOfMemory(groupName(principal))) return exit;
  return { ...exit, description: `${exit.description}: it used all the memory its template allows it` };
}

/** Ends the program, with SIGTERM first unless `force`, and removes everything. @throws BureauError `not-found` */
export async function destroySandbox(
  host: SandboxHost,
  principal: PrincipalName,
  options: { readonly force: boolean; readonly graceMs: number },
): Promise<SandboxExit | undefined> {
  const record = host.table.get(principal);
  if (record === undefined)
    throw new BureauError("not-found", `Cannot destroy the sandbox of "${principal}": there is none`);
  host.watch.delete(principal);
  const exit = await endAndClear(host, record, options).catch((error: unknown) => {
    // The sandbox is still in the table: the watch reports its end.
    const left = host.table.get(principal);
    if (left?.phase === "running") host.watch.add(principal, left.processes ?? {});
    throw error;
  });
  host.log.info("sandbox.destroyed", "sandbox destroyed", { principal, exit: exit?.description });
  return exit;
}

async function endAndClear(
  host: SandboxHost,
  record: SandboxRecord,
  options: { readonly force: boolean; readonly graceMs: number },
): Promise<SandboxExit | undefined> {
  const { principal, phase } = record;
  const exit = phase === "running" ? await endProgram(host, record, options) : record.exit;
  if (phase === "running") {
    const screen = await finalScreen(host, principal);
    if (screen !== undefined) saveLastScreen(host, principal, screen);
  }
  await clearSandbox(host, principal);
  return exit;
}

async function endProgram(
  host: SandboxHost,
  record: SandboxRecord,
  options: { readonly force: boolean; readonly graceMs: number },
): Promise<SandboxExit> {
  const paths = pathsOf(host, record.principal);
  const { processes } = record;
  const { bwrap, program, shell } = processes ?? {};
  const before = readExitCode(paths);
  if (before !== undefined) return exitOf(before, host.clock);
  if (!options.force && program !== undefined) {
    askToEnd(program);
    if (bwrap === undefined || (await endsWithin(host, bwrap, options.graceMs))) {
      const code = await writtenExitCode(host, paths, shell);
      return code === undefined ? lostExit("its terminal was killed", host.clock) : exitOf(code, host.clock);
    }
  }
  host.groups.kill(groupName(record.principal));
  // The shell and its commands keep running: they write the exit code, and the terminal keeps the last screen.
  const inside = processes === undefined ? allProcesses(paths, undefined) : processesInside(paths, processes);
  await killProcesses(inside, host.clock);
  return exitOf((await writtenExitCode(host, paths, shell)) ?? KILLED, host.clock);
}

/** False after `graceMs`, or {@link GRACE_MS} after the launcher was told to stop. */
async function endsWithin(
  { clock, stopping }: SandboxHost,
  id: ProcessId,
  graceMs: number,
): Promise<boolean> {
  const deadline = clock.monotonic() + graceMs;
  if (await waitUntilGone(id, graceMs, clock, stopping)) return true;
  const leftMs = Math.max(0, deadline - clock.monotonic());
  return stopping.aborted && (await waitUntilGone(id, Math.min(leftMs, GRACE_MS), clock));
}

/** Waits for the exit code: its shell writes it a moment after bubblewrap has ended. Undefined when the shell was killed. */
async function writtenExitCode(
  host: SandboxHost,
  paths: SandboxPaths,
  shell: ProcessId | undefined,
): Promise<number | undefined> {
  const isOver = (): boolean => readExitCode(paths) !== undefined || shell === undefined || !isAlive(shell);
  await until(host, isOver, EXIT_CODE_MS_MAX);
  return readExitCode(paths);
}

/** False after `timeoutMs`, or {@link GRACE_MS} after the launcher was told to stop. */
async function until(host: SandboxHost, condition: () => boolean, timeoutMs: number): Promise<boolean> {
  const { clock, stopping } = host;
  let deadline = clock.monotonic() + timeoutMs;
  const hurry = (): void => {
    deadline = Math.min(deadline, clock.monotonic() + GRACE_MS);
  };
  if (stopping.aborted) hurry();
  stopping.addEventListener("abort", hurry, { once: true });
  try {
    for (let waitMs = 1; !condition(); waitMs = Math.min(waitMs * 1.5, 25)) {
      if (clock.monotonic() >= deadline) return false;
      await clock.sleep(waitMs);
    }
    return true;
  } finally {
    stopping.removeEventListener("abort", hurry);
  }
}

/**
 * Removes every process, socket, file and terminal of the principal's sandbox. `proxy`: one that the record does not name
 * yet. @throws BureauError when a process does not die
 */
export async function clearSandbox(
  host: SandboxHost,
  principal: PrincipalName,
  proxy?: ProcessId,
): Promise<void> {
  const paths = pathsOf(host, principal);
  const record = host.table.get(principal);
  host.watch.delete(principal);
  const proxyStopped = Promise.all(
    [record?.proxy, proxy].filter((id) => id !== undefined).map((id) => host.proxies.stop(id)),
  );
  // First the session, which could start processes. When tmux does not run, the rest is still ended.
  const terminal = await Promise.allSettled([host.tmux.killSession(tmuxSession(principal))]);
  await host.groups.remove(groupName(principal), host.clock);
  await killAll(paths, record?.processes, host.clock);
  for (const outcome of terminal) if (outcome.status === "rejected") throw outcome.reason;
  await proxyStopped;
  for (const path of [paths.proxyLink, paths.adminSocket, paths.serviceLink])
    if (path !== undefined) rmSync(path, { force: true });
  host.table.remove(principal);
}
