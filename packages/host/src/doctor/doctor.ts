/**
 * The doctor's flows: look; plan and apply until nothing more can be repaired; report what changed. The caller makes sure
 * that it runs as root where the plan needs that.
 */
import { closeSync, openSync } from "node:fs";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { BureauError, errnoOf, isBureauError, messageOf } from "@bureau/kit/errors";
import { waitFor } from "@bureau/kit/wait-for";
import { machineReport } from "@bureau/os/daemon-client";
import { tryLock } from "@bureau/os/posix";
import { type UnitState, unitStates } from "@bureau/os/systemctl";
import { daemonUnit } from "@bureau/os/unit-names";
import { type Check, type CheckResult, remedyOf } from "../checks/check.ts";
import { openHostView } from "../checks/host-view.ts";
import { runChecks } from "../checks/run-checks.ts";
import { Backups } from "../record/backups.ts";
import { folder } from "../resources/folder.ts";
import { openRecord } from "../resources/host-record.ts";
import {
  type Action,
  actionKindOf,
  applyAction,
  describeAction,
  entryKindOf,
} from "../resources/registry.ts";
import type { FixContext } from "../resources/resource.ts";
import { unitFiles } from "../units/unit-files.ts";
import { actionKey, type Change, changesOf, planSteps, type Step } from "./plan.ts";
import type { Subject } from "./subject.ts";

/** Rounds of looking and repairing: the next round repairs what a repair uncovered. */
const ROUNDS_MAX = 5;
/** Started programs get this long until the daemon is in sync. */
const READY_MS_MAX = 30_000;

export const examine = (checks: readonly Check[], subject: Subject): Promise<CheckResult[]> =>
  runChecks(checks, openHostView(subject));

/** {@link examine} after units that are starting have started, to find what is left to do. */
export async function examineWhenReady(checks: readonly Check[], subject: Subject): Promise<CheckResult[]> {
  if (subject.instance === undefined) {
    const states = await openHostView(subject).units();
    if ([...states.values()].some(({ active }) => active === "activating"))
      await waitUntilReady(subject, systemClock);
  }
  return examine(checks, subject);
}

/** What repairs these findings. */
export function planOf(results: readonly CheckResult[]): Step[] {
  return planSteps(
    results.map(({ check, finding }) => ({ check: check.id, actions: remedyOf(finding).actions ?? [] })),
  );
}

export type Fixed = {
  readonly results: readonly CheckResult[];
  /** What was done. */
  readonly steps: readonly Step[];
  readonly changes: readonly Change[];
  readonly errors: readonly Change[];
  /** A signal stopped it between two steps. */
  readonly isInterrupted: boolean;
};

export type FixOptions = {
  readonly checks: readonly Check[];
  readonly subject: Subject;
  /** Called after each action. */
  readonly onStep: (step: Step, error?: unknown) => void;
  /** Stops it between two actions. */
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
};

/** How often one run tries an action: what did not help twice never will. */
const ATTEMPTS_MAX = 2;

/** Actions that were tried, and their results. */
class Attempts {
  readonly done: Step[] = [];
  readonly failed: { readonly step: Step; readonly error: unknown }[] = [];

  /** An action that failed once fails again. */
  isWorthTrying(action: Action): boolean {
    const isSame = (step: Step): boolean => actionKey(step.action) === actionKey(action);
    if (this.failed.some(({ step }) => isSame(step))) return false;
    return this.done.filter(isSame).length < (actionKindOf(action).attemptsMax ?? ATTEMPTS_MAX);
  }
}

/** Repairs what can be repaired. A repair that fails is in the result; it does not throw. */
export async function fix(options: FixOptions): Promise<Fixed> {
  const { checks, subject, signal, clock = systemClock } = options;
  using _lock = await lockHost(clock);
  const record = openRecord();
  const backups = new Backups({
    time: new Date(clock.now()),
    needed: record.entries.flatMap((entry) => entryKindOf(entry).copiesOf?.(entry) ?? []),
    onFolder: (path) => record.intend(folder.entry, { path }),
  });
  const context = { record, backups, bootstrap: subject.bootstrap };
  const attempts = new Attempts();
  let results = await examineWhenReady(checks, subject);
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const steps = planOf(results).filter(({ action }) => attempts.isWorthTrying(action));
    if (steps.length === 0) break;
    const isWhole = await applySteps(steps, context, attempts, options);
    if (signal?.aborted === true) break;
    if (isWhole && steps.some(({ action }) => actionKindOf(action).startsPrograms === true))
      await waitUntilReady(subject, clock, signal);
    results = await examine(checks, subject);
    if (!isWhole) break;
  }
  return {
    results,
    steps: attempts.done,
    changes: changesOf(attempts.done),
    isInterrupted: signal?.aborted === true,
    errors: attempts.failed.flatMap(({ step, error }) =>
      step.checks.map((id) => ({ id, what: `${describeAction(step.action)}: ${messageOf(error)}` })),
    ),
  };
}

/** False when a vital action failed: nothing that depends on it is tried, now or in a later round. */
async function applySteps(
  steps: readonly Step[],
  context: FixContext,
  attempts: Attempts,
  { onStep, signal }: Pick<FixOptions, "onStep" | "signal">,
): Promise<boolean> {
  for (const step of steps) {
    if (signal?.aborted === true) return false;
    try {
      await applyAction(step.action, context);
      attempts.done.push(step);
      onStep(step);
    } catch (error) {
      if (!isBureauError(error) && errnoOf(error) === undefined) throw error;
      attempts.failed.push({ step, error });
      onStep(step, error);
      if (actionKindOf(step.action).isVital === true) return false;
    }
  }
  return true;
}

/** A unit that waits for its next attempt has failed, and is not starting. */
const isStarting = (state: UnitState | undefined): boolean =>
  state?.active === "activating" && state.sub !== "auto-restart";

/** A unit that another one pulls in is inactive for a moment. */
const INACTIVE_MS_MAX = 1_500;

/** Waits until the daemon is in sync, has failed, or stays inactive. */
async function waitUntilReady(subject: Subject, clock: Clock, signal?: AbortSignal): Promise<void> {
  const { layout } = openHostView(subject);
  let inactiveSince: number | undefined;
  await waitFor(
    async () => {
      if (signal?.aborted === true) return true;
      const states = await unitStates(unitFiles.map(({ name }) => name));
      const daemon = states.get(daemonUnit);
      if ([...states.values()].some(isStarting)) return undefined;
      if (daemon?.active === "failed") return true;
      if (daemon?.active === "active") {
        const report = await machineReport(layout).catch(() => undefined);
        return report?.machine.state === "online" ? true : undefined;
      }
      inactiveSince ??= clock.monotonic();
      return clock.monotonic() - inactiveSince > INACTIVE_MS_MAX ? true : undefined;
    },
    { timeoutMs: READY_MS_MAX, clock },
  );
}

/** Another doctor, such as one whose caller disconnected, nearly always ends within seconds. */
const LOCK_MS_MAX = 60_000;

/**
 * One doctor at a time changes a host: waits for another one to end. The lock is on a folder that always exists, so it leaves
 * no file. @throws BureauError `conflict`
 */
export async function lockHost(clock: Clock = systemClock): Promise<Disposable> {
  const fd = openSync("/etc", "r");
  const mine = await waitFor(async () => (tryLock(fd) ? true : undefined), { timeoutMs: LOCK_MS_MAX, clock });
  if (mine === true) return { [Symbol.dispose]: () => closeSync(fd) };
  closeSync(fd);
  throw new BureauError(
    "conflict",
    `Cannot change this host: another doctor has been changing it for ${LOCK_MS_MAX / 1000} s`,
    {
      hint: "wait until it ends, then run the same command again",
    },
  );
}
