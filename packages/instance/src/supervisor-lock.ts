/**
 * Only one process at a time may start, stop or sweep an instance's programs; a process that sweeps supervises none:
 *
 * * up lock: `bureau up` and `bureau down` of one instance take turns;
 * * supervisor lock: held by a supervisor for its lifetime, and by a process that removes what a supervisor left. The file
 *   contains the holder's process identity, so that a supervisor with a removed socket can still be stopped.
 */
import { ftruncateSync, writeSync } from "node:fs";
import type { Clock } from "@bureau/kit/clock";
import { BureauError, isBureauError } from "@bureau/kit/errors";
import { runStep, type Steps } from "@bureau/kit/run-step";
import { readIfPresent } from "@bureau/os/durable-file";
import { type FileLock, tryFileLock, waitForFileLock } from "@bureau/os/file-lock";
import { type InstanceLayout, supervisorLockFile, upLockFile } from "@bureau/os/layout";
import { stopProcess } from "@bureau/os/process-end";
import { identify, type ProcessId, signalProcess } from "@bureau/os/process-table";
import { stopSupervisor } from "./supervisor-wire.ts";

/** Another `bureau up` takes seconds; each of its steps fails within this. */
const TURN_MS_MAX = 120_000;
/** Sandboxes get 5 s, the launcher 15, the daemon and homeserver 8 each. */
const STOP_MS_MAX = 60_000;
/** The time between taking the lock and writing its holder, or between the end of a process and the release of its lock. */
const HANDOVER_MS_MAX = 2_000;

/** Waits until no other `bureau up` or `bureau down` of the instance runs. @throws BureauError `conflict` */
export async function takeTurn(layout: InstanceLayout, steps: Steps, clock: Clock): Promise<Disposable> {
  const file = upLockFile(layout);
  const wait = async (): Promise<Disposable> => {
    const turn = await waitForFileLock(file, TURN_MS_MAX, clock);
    if (turn !== undefined) return turn;
    throw new BureauError("conflict", `Another bureau up or down of "${layout.home}" does not end`, {
      hint: "bureau status shows its progress",
    });
  };
  return tryFileLock(file) ?? (await runStep(steps, "Waiting for another bureau up or down", wait));
}

/** The lock of a running supervisor; undefined when another one runs. */
export function tryToSupervise(layout: InstanceLayout): FileLock | undefined {
  const lock = tryFileLock(supervisorLockFile(layout));
  const own = identify(process.pid);
  if (lock === undefined || own === undefined) return lock;
  ftruncateSync(lock.fd);
  writeSync(lock.fd, `${own.pid} ${own.startTicks}\n`, 0);
  return lock;
}

/**
 * Stops the instance's supervisor and so its programs: by a request when it answers, else by SIGTERM. Then holds its lock,
 * so that no other supervisor starts until the lock is disposed of.
 * @throws BureauError `timeout`
 */
export async function replaceSupervisor(
  layout: InstanceLayout,
  clock: Clock,
): Promise<FileLock & { readonly wasUp: boolean }> {
  const told = await tellToStop(layout);
  const lock = (told ? undefined : tryToSupervise(layout)) ?? (await takeFromHolder(layout, told, clock));
  return { ...lock, wasUp: told };
}

/** Asks the supervisor to stop. False when none answers. */
export async function tellToStop(layout: InstanceLayout): Promise<boolean> {
  try {
    await stopSupervisor(layout);
    return true;
  } catch (error) {
    // An exiting supervisor closes the connection; a hanging one is stopped by its process id.
    if (isBureauError(error) && ["unavailable", "timeout"].includes(error.code)) return false;
    throw error;
  }
}

async function takeFromHolder(layout: InstanceLayout, told: boolean, clock: Clock): Promise<FileLock> {
  const take = async (timeoutMs: number): Promise<FileLock | undefined> => {
    const lock = await waitForFileLock(supervisorLockFile(layout), timeoutMs, clock);
    lock?.[Symbol.dispose]();
    return lock === undefined ? undefined : tryToSupervise(layout);
  };
  let lock: FileLock | undefined;
  if (!told) {
    lock = await take(HANDOVER_MS_MAX);
    const holder = holderOf(layout);
    if (lock === undefined && holder !== undefined) signalProcess(holder, "SIGTERM");
  }
  lock ??= await take(STOP_MS_MAX);
  const holder = holderOf(layout);
  if (lock === undefined && holder !== undefined) {
    await stopProcess(holder, 0, clock);
    lock = await take(HANDOVER_MS_MAX);
  }
  if (lock !== undefined) return lock;
  throw new BureauError(
    "timeout",
    `The supervisor of "${layout.home}" did not stop within ${STOP_MS_MAX / 1000} s`,
    {
      hint: `fuser -v ${supervisorLockFile(layout)} shows which process it is`,
    },
  );
}

function holderOf(layout: InstanceLayout): ProcessId | undefined {
  const [, pid, startTicks] = /^(\d+) (\d+)\n$/u.exec(readIfPresent(supervisorLockFile(layout)) ?? "") ?? [];
  return pid === undefined ? undefined : { pid: Number(pid), startTicks: Number(startTicks) };
}
