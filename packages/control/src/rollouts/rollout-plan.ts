/**
 * The next state of a rollout, given what the machines report. Pure: the rollout controller reads, plans, writes the new
 * state, and only then sends the requests that follow from it. What always holds, however often a controller ends and
 * however many there are:
 *
 * * no machine beyond the canaries is asked before that many have succeeded;
 * * a batch begins when nothing is under way; once a machine has failed nothing begins;
 * * a request's id follows from rollout, machine and attempt, so that the same request sent twice has one effect.
 */
import type { BureauVersion, MachineVersion } from "@bureau/schema/events";
import type { MachineLocalpart } from "@bureau/schema/refs";
import { type Rollout, type RolloutMachine, type RolloutState, rolloutStates } from "@bureau/schema/rollout";
import { runsAlready } from "./upgrade-target.ts";

/** What is known of one machine. */
export type MachineFacts = {
  /** Its last heartbeat is recent. */
  readonly online: boolean;
  readonly lastSeen?: string;
  /** Why its state cannot be read, though the homeserver answers: its room is missing, or we may not read it. */
  readonly fault?: string;
  /** Absent when it was not read this time: nothing about this machine is decided then. */
  readonly seen?: {
    readonly version: MachineVersion | undefined;
    readonly desired: BureauVersion | undefined;
  };
};
/** A machine that is missing here has left the fleet. */
export type FleetFacts = ReadonlyMap<MachineLocalpart, MachineFacts>;

/** A request to one machine to run a build. */
export type Publication = {
  readonly machine: MachineLocalpart;
  readonly requestId: string;
  /** The build of a rollback; absent: the rollout's own build. */
  readonly backTo?: string;
};

export type RolloutPlan = { readonly rollout: Rollout; readonly publish: readonly Publication[] };

/** The next state, and the requests to send once it is written. `now`: milliseconds since the epoch. */
export function planRollout(id: string, rollout: Rollout, facts: FleetFacts, now: number): RolloutPlan {
  const next = beginNext(id, decide(id, asMachinesSay(rollout, facts, now), facts, now), facts, now);
  return { rollout: next, publish: next.machines.flatMap((one) => publicationOf(one, facts)) };
}

/**
 * The rollout with the state that its machines report: no controller writes a halted rollout, but its last machines still
 * finish. `now`: milliseconds since the epoch.
 */
export const asMachinesSay = (rollout: Rollout, facts: FleetFacts, now: number): Rollout =>
  recall(
    { ...rollout, machines: rollout.machines.map((one) => finishIfEnded(rollout, one, facts, now)) },
    facts,
  );

export const isOver = (rollout: Rollout): boolean =>
  rollout.state !== "running" && rollout.state !== "rolling-back" && !rollout.machines.some(isUnderWay);

export const isUnderWay = ({ state }: RolloutMachine): boolean =>
  state === "upgrading" || state === "rolling-back";

const ROLLBACK = "/rollback";
/** A rollout is one event, which holds 64 KiB; the machine's own room has the whole reason. */
const REASON_CHARS_MAX = 160;
const requestIdOf = (id: string, { machine, attempt }: RolloutMachine): string =>
  `${id}/${machine}/${attempt}`;
const wasRolledBack = ({ request_id }: RolloutMachine): boolean => request_id?.endsWith(ROLLBACK) === true;
const stamp = (now: number): string => new Date(now).toISOString();

/** Ends a machine under way that has answered, or is out of time. */
function finishIfEnded(
  rollout: Rollout,
  one: RolloutMachine,
  facts: FleetFacts,
  now: number,
): RolloutMachine {
  if (!isUnderWay(one)) return one;
  const { replaces_request: _, ...rest } = one;
  const end = (state: RolloutMachine["state"], reason?: string): RolloutMachine => ({
    ...rest,
    state,
    finished_at: stamp(now),
    ...(reason === undefined ? {} : { reason: reason.slice(0, REASON_CHARS_MAX) }),
  });
  const fact = facts.get(one.machine);
  if (fact === undefined) return end("failed", "it left the fleet");
  if (fact.fault !== undefined) return end("failed", fact.fault);
  if (fact.seen === undefined) return one;
  const { version, desired } = fact.seen;
  const answer = version?.history.find(({ request_id }) => request_id === one.request_id);
  const good = one.state === "upgrading" ? "succeeded" : "rolled-back";
  if (answer !== undefined)
    return answer.outcome === "succeeded"
      ? end(good)
      : end("failed", `${answer.outcome}${answer.reason === undefined ? "" : `: ${answer.reason}`}`);
  const asked = desired?.request_id ?? "";
  if (asked === one.request_id) {
    if (version?.state === "running" && runsAlready(goalOf(rollout, one), version)) return end(good);
    const since = Date.parse(one.asked_at ?? stamp(now));
    const isLate = now - since > rollout.timeout_seconds * 1_000;
    return isLate ? end("failed", `no answer within ${rollout.timeout_seconds} s`) : one;
  }
  // The request is not written yet: its time starts later.
  if (asked === (one.replaces_request ?? "")) return { ...one, asked_at: stamp(now) };
  return end("failed", `${desired?.requested_by ?? "another operator"} requested another build meanwhile`);
}

const goalOf = (rollout: Rollout, one: RolloutMachine): Parameters<typeof runsAlready>[0] =>
  one.state === "rolling-back"
    ? { path: one.previous_host_environment_path ?? "" }
    : {
        path: rollout.host_environment_path,
        ...(rollout.programs === undefined ? {} : { programs: rollout.programs }),
      };

/**
 * Takes back requests that were written into the rollout and not sent, because a controller ended in between or two were
 * merged: when the rollout stops or rolls back, and when more machines were begun than the canaries allow.
 */
function recall(rollout: Rollout, facts: FleetFacts): Rollout {
  const { state } = rollout;
  const continues = state === "running" && !mustStop(rollout) && !isBeyondCanaries(rollout);
  if (continues || state === "done" || state === "rolled-back") return rollout;
  const machines = rollout.machines.map(
    (one): RolloutMachine =>
      one.state === "upgrading" && publicationOf(one, facts).length > 0
        ? { ...(one.attempt > 1 ? changedBefore(one) : {}), ...pendingAt(one, one.attempt) }
        : one,
  );
  return { ...rollout, machines };
}

const pendingAt = ({ machine }: RolloutMachine, attempt: number) =>
  ({ machine, state: "pending", attempt }) as const;

/** What an earlier attempt may have replaced, though no report confirms it: a rollback restores it. */
const changedBefore = ({ previous_host_environment_path: previous }: RolloutMachine) =>
  previous === undefined ? {} : { previous_host_environment_path: previous };

/** Whether the rollout as a whole stops, rolls back, or is done. */
function decide(id: string, rollout: Rollout, facts: FleetFacts, now: number): Rollout {
  const become = (state: RolloutState): Rollout => ({
    ...rollout,
    state,
    ...(state === "rolling-back" ? {} : { finished_at: stamp(now) }),
  });
  if (rollout.machines.some(isUnderWay)) return rollout;
  if (rollout.state === "rolling-back")
    return rollout.machines.some((one) => isToRollBack(id, one, facts) !== "no")
      ? rollout
      : become("rolled-back");
  if (rollout.state !== "running") return rollout;
  if (mustStop(rollout)) return become(rollout.rollback_on_error ? "rolling-back" : "halted");
  return rollout.machines.some(({ state }) => state === "pending") ? rollout : become("done");
}

/** A failed canary stops every rollout. */
function mustStop(rollout: Rollout): boolean {
  const failed = rollout.machines.some(({ state }) => state === "failed");
  return failed && (rollout.halt_on_error || rollout.rollback_on_error || proven(rollout) < rollout.canary);
}

const proven = ({ machines }: Rollout): number =>
  machines.filter(({ state }) => state === "succeeded").length;

function isBeyondCanaries(rollout: Rollout): boolean {
  const missing = rollout.canary - proven(rollout);
  return missing > 0 && rollout.machines.filter(isUnderWay).length > missing;
}

/** Begins the machines that may begin. */
function beginNext(id: string, rollout: Rollout, facts: FleetFacts, now: number): Rollout {
  if (rollout.state === "rolling-back")
    return { ...rollout, machines: rollout.machines.map((one) => rollBack(id, one, facts, now)) };
  if (rollout.state !== "running" || rollout.machines.some(isUnderWay) || mustStop(rollout)) return rollout;
  const missing = rollout.canary - proven(rollout);
  let room = missing > 0 ? missing : rollout.batch;
  const machines = rollout.machines.map((one) => {
    if (room === 0 || one.state !== "pending") return one;
    const next = begin(id, rollout, one, facts, now);
    // A machine that ran the build already counts as a canary, too.
    if (next.state === "upgrading" || (missing > 0 && next.state === "succeeded")) room--;
    return next;
  });
  return { ...rollout, machines };
}

function begin(
  id: string,
  rollout: Rollout,
  one: RolloutMachine,
  facts: FleetFacts,
  now: number,
): RolloutMachine {
  const skip = (reason: string): RolloutMachine => ({
    ...one,
    state: "skipped",
    reason: reason.slice(0, REASON_CHARS_MAX),
    finished_at: stamp(now),
  });
  const fact = facts.get(one.machine);
  if (fact === undefined) return skip("it left the fleet");
  if (!fact.online)
    return rollout.wait_offline ? one : skip(`offline, last seen ${fact.lastSeen ?? "never"}`);
  if (fact.fault !== undefined) return skip(fact.fault);
  if (fact.seen === undefined) return one;
  const { version, desired } = fact.seen;
  if (version === undefined) return skip("its daemon does not report which build it runs");
  if (version.state === "running" && runsAlready(goalOf(rollout, one), version))
    return { ...one, state: "succeeded", reason: "it ran this already", finished_at: stamp(now) };
  return {
    ...one,
    state: "upgrading",
    request_id: requestIdOf(id, one),
    replaces_request: desired?.request_id ?? "",
    previous_host_environment_path: previousOf(rollout, one, version),
    asked_at: stamp(now),
  };
}

/** The build it ran before this rollout: an earlier attempt may have changed it already. */
const previousOf = (rollout: Rollout, one: RolloutMachine, version: MachineVersion): string =>
  version.host_environment_path === rollout.host_environment_path
    ? (one.previous_host_environment_path ?? version.host_environment_path)
    : version.host_environment_path;

/** `unknown`: its state was not read this time. */
function isToRollBack(id: string, one: RolloutMachine, facts: FleetFacts): "yes" | "no" | "unknown" {
  const { state, previous_host_environment_path: back } = one;
  if (isUnderWay(one) || state === "rolled-back" || back === undefined || wasRolledBack(one)) return "no";
  const fact = facts.get(one.machine);
  if (fact === undefined) return "no";
  if (fact.fault !== undefined) return "yes";
  if (fact.seen === undefined) return "unknown";
  // It may run what an earlier attempt requested.
  return state === "succeeded" || state === "failed" || isOurs(id, one, fact.seen.desired) ? "yes" : "no";
}

/** Whether the request it has now is one of this rollout, of any attempt. */
function isOurs(id: string, { machine }: RolloutMachine, desired: BureauVersion | undefined): boolean {
  const asked = desired?.request_id ?? "";
  return asked.startsWith(`${id}/${machine}/`) && !asked.endsWith(ROLLBACK);
}

function rollBack(id: string, one: RolloutMachine, facts: FleetFacts, now: number): RolloutMachine {
  if (isToRollBack(id, one, facts) !== "yes") return one;
  const { seen, fault } = facts.get(one.machine) ?? {};
  const request_id = `${requestIdOf(id, one)}${ROLLBACK}`;
  if (fault !== undefined)
    return {
      ...one,
      state: "failed",
      request_id,
      finished_at: stamp(now),
      reason: fault.slice(0, REASON_CHARS_MAX),
    };
  const version = seen?.version;
  const isBack =
    version !== undefined &&
    version.host_environment_path === one.previous_host_environment_path &&
    version.state !== "upgrading";
  const answered = version?.history.some((entry) => entry.request_id === one.request_id) === true;
  // It rolled back by itself, and does not try its request again.
  if (isBack && answered) return { ...one, state: "rolled-back", request_id, finished_at: stamp(now) };
  // Another operator requested something else since: the machine is theirs.
  if (!isOurs(id, one, seen?.desired))
    return { ...one, request_id, reason: one.reason ?? "another operator requested something else since" };
  return {
    ...one,
    state: "rolling-back",
    request_id,
    replaces_request: seen?.desired?.request_id ?? "",
    asked_at: stamp(now),
  };
}

/** The request of a machine that was not sent yet, or that a controller did not send before it ended. */
function publicationOf(one: RolloutMachine, facts: FleetFacts): Publication[] {
  const seen = facts.get(one.machine)?.seen;
  if (!isUnderWay(one) || seen === undefined || one.request_id === undefined) return [];
  if ((seen.desired?.request_id ?? "") !== (one.replaces_request ?? "")) return [];
  if (seen.version?.history.some(({ request_id }) => request_id === one.request_id) === true) return [];
  const back = one.state === "rolling-back" ? one.previous_host_environment_path : undefined;
  return [
    {
      machine: one.machine,
      requestId: one.request_id,
      ...(back === undefined ? {} : { backTo: back }),
    },
  ];
}

/** It has begun to roll machines back: from then on it never upgrades a machine again. */
export const isRollingBack = ({ machines }: Rollout): boolean => machines.some(wasRolledBack);

/**
 * Continues a rollout that stopped: machines that failed or were skipped get a new attempt. A rollout that was rolling back
 * continues to roll back.
 */
export function resumeRollout(rollout: Rollout): Rollout {
  const generation = rollout.generation + 1;
  const { finished_at: _, ...rest } = rollout;
  if (isRollingBack(rollout)) return { ...rest, state: "rolling-back", generation };
  const machines = rollout.machines.map((one): RolloutMachine => {
    if (one.state !== "failed" && one.state !== "skipped") return one;
    const { request_id } = one;
    return {
      ...(request_id === undefined ? {} : { request_id }),
      ...changedBefore(one),
      ...pendingAt(one, generation),
    };
  });
  return { ...rest, state: "running", generation, machines };
}

/** Fails machines under way whose request could not be sent, with the reason. */
export const failUnasked = (
  rollout: Rollout,
  faults: ReadonlyMap<MachineLocalpart, string>,
  now: number,
): Rollout => ({
  ...rollout,
  machines: rollout.machines.map((one): RolloutMachine => {
    const fault = faults.get(one.machine);
    if (fault === undefined || !isUnderWay(one)) return one;
    const reason = fault.slice(0, REASON_CHARS_MAX);
    return { ...one, state: "failed", reason, finished_at: stamp(now) };
  }),
});

/** A rollout that an operator halts: machines under way finish, nothing else begins. */
export const asHalted = (rollout: Rollout, now: number): Rollout => ({
  ...rollout,
  state: "halted",
  finished_at: stamp(now),
});

const machineRank: Readonly<Record<RolloutMachine["state"], number>> = {
  pending: 0,
  upgrading: 1,
  skipped: 2,
  succeeded: 3,
  failed: 4,
  "rolling-back": 6,
  "rolled-back": 8,
};
/** A failed rollback comes after the rollback; everything else in its order. */
const rankOf = (one: RolloutMachine): number =>
  machineRank[one.state] + (wasRolledBack(one) && one.state !== "rolling-back" ? 4 : 0);

/**
 * Merges what two controllers wrote over each other: of each machine, and of the whole, the state that is further on.
 * Where both are equal, `mine`.
 */
export function mergeRollouts(mine: Rollout, theirs: Rollout): Rollout {
  const other = new Map(theirs.machines.map((one) => [one.machine, one]));
  const machines = mine.machines.map((one) => {
    const two = other.get(one.machine);
    if (two === undefined || one.attempt > two.attempt) return one;
    return two.attempt > one.attempt || rankOf(two) > rankOf(one) ? two : one;
  });
  const isTheirs =
    theirs.generation > mine.generation ||
    (theirs.generation === mine.generation &&
      rolloutStates.indexOf(theirs.state) > rolloutStates.indexOf(mine.state));
  return { ...(isTheirs ? theirs : mine), machines };
}
