/** Ends what is left of an instance when its supervisor was killed, or a program did not stop when told. */
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import type { Clock } from "@bureau/kit/clock";
import { BureauError, errnoOf } from "@bureau/kit/errors";
import { removeDurably } from "@bureau/os/durable-file";
import { type InstanceLayout, tmuxSocket } from "@bureau/os/layout";
import { findInhabitants } from "@bureau/os/mounts";
import { waitUntilGone } from "@bureau/os/process-end";
import {
  descendantsOf,
  findByArguments,
  findProcesses,
  type ProcessId,
  signalProcess,
} from "@bureau/os/process-table";
import { removeTree } from "@bureau/os/remove-tree";
import { readRecorded } from "./supervisor-state.ts";

/** The launcher gives sandboxes 5 s, then kills them; after twice that and some it hangs. */
export const LAUNCHER_GRACE_MS = 15_000;
export const PROGRAM_GRACE_MS = 8_000;
/** A killed process ends in milliseconds, unless a disk or a network file system holds it. */
const SWEEP_MS_MAX = 30_000;

/** Folders and sockets that every run leaves; their removal is not reported. */
const usual = (layout: InstanceLayout): readonly string[] => [basename(layout.supervisorSocket), "fleet"];

/**
 * Ends every process of the instance and removes its sockets. Returns what it ended and removed. The caller must hold the
 * supervisor's lock.
 * @throws BureauError `timeout` with the process that cannot be ended
 */
export async function sweep(layout: InstanceLayout, clock: Clock): Promise<string[]> {
  const swept: string[] = [];
  const recorded = [...readRecorded(layout).values()].reverse();
  for (const process of [...recorded, ...strays(layout)]) {
    if (!signalProcess(process, "SIGTERM")) continue;
    swept.push(`process ${process.pid}`);
    if (!(await waitUntilGone(process, LAUNCHER_GRACE_MS, clock))) signalProcess(process, "SIGKILL");
    await waitUntilGone(process, PROGRAM_GRACE_MS, clock);
  }
  await endAll(() => [...strays(layout), ...findInhabitants(layout.runDir)], clock);
  removeDurably(layout.supervisorStateFile);
  for (const entry of entriesOf(layout.runDir)) {
    removeTree(join(layout.runDir, entry));
    if (!usual(layout).includes(entry)) swept.push(entry);
  }
  return swept;
}

/** Shells that run a sandbox's script; they outlive the tmux pane for a moment. */
const findPaneShells = (layout: InstanceLayout): ProcessId[] =>
  findProcesses(
    ([shell = "", script = ""]) => shell.endsWith("/sh") && script.startsWith(`${layout.runDir}/`),
  );

/** The instance's processes, found by their command lines. */
const strays = (layout: InstanceLayout): ProcessId[] => [
  ...findByArguments("--run-dir", layout.runDir),
  ...findByArguments("--data-dir", layout.homeserverDir),
  ...findByArguments("-S", tmuxSocket(layout)),
  ...findPaneShells(layout),
];

/**
 * Kills the processes that `find` returns and their descendants, until it returns none: a process may have started
 * another one in between. When this returns, none of them runs. @throws BureauError `timeout`
 */
async function endAll(find: () => ProcessId[], clock: Clock): Promise<void> {
  const deadline = clock.monotonic() + SWEEP_MS_MAX;
  for (let found = find(); found.length > 0; found = find()) {
    const killed = [...found, ...found.flatMap(({ pid }) => descendantsOf(pid))];
    for (const process of killed) signalProcess(process, "SIGKILL");
    // They end at the same time, so the wait for all is hardly longer than for one.
    for (const process of killed)
      if (!(await waitUntilGone(process, Math.max(0, deadline - clock.monotonic()), clock)))
        throw new BureauError("timeout", `Process ${process.pid} of this Bureau cannot be ended`, {
          hint: `ps -o pid,stat,wchan,args -p ${process.pid} shows what it waits for; then bureau down`,
        });
  }
}

function entriesOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}
