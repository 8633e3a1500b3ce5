/**
 * Decommissions a machine: asks it to stop what it runs and to report that, then removes it from its fleet. The machine
 * does the first half: its daemon reads the request in the config room. This module does the second. Interrupted anywhere
 * and run again, it does what is left.
 *
 * A machine that does not answer stays in the fleet unless `force` is set: its agents would be killed without their grace.
 */
import { type Clock, systemClock, timestamp } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { runStep, type Steps } from "@bureau/kit/run-step";
import { waitFor } from "@bureau/kit/wait-for";
import { changePowerLevels } from "@bureau/matrix/power-levels";
import type { AdminAnswer, ServerAdmin } from "@bureau/matrix/server-admin";
import type { MatrixSession } from "@bureau/matrix/session";
import {
  eventTypes,
  isCleared,
  type MachineDecommission,
  MachineDecommissionedSchema,
  MachineDecommissionSchema,
  PowerLevelsSchema,
} from "@bureau/schema/events";
import {
  aliasOf,
  fleetOf,
  localpartOf,
  type MachineLocalpart,
  type RoomId,
  rooms,
  serverOf,
  stateKeyOf,
  type UserId,
  userIdOf,
} from "@bureau/schema/refs";
import { safeParse } from "valibot";
import { randomHex } from "../digest.ts";
import { type FoundRoom, findMachineRooms, membershipOf } from "../rooms/machine-rooms.ts";
import { listMachines } from "./list-machines.ts";
import { type AccountKeys, agentsOf, assignedElsewhere, closeAgentAccount } from "./machine-agents.ts";
import { attempt, clearState, finishRemoval, kickEverywhere, type Removal } from "./machine-removal.ts";

/** What a machine may take beyond its grace: to read the request, kill what does not stop, and report. */
const ANSWER_MS_MAX = 30_000;

export type DecommissionOptions = {
  readonly session: MatrixSession;
  readonly machine: MachineLocalpart;
  /** Between SIGTERM and SIGKILL, whole seconds. */
  readonly graceSeconds: number;
  /** Do not send the request: the machine is off, or lost. */
  readonly offline: boolean;
  /** Send the request, and remove the machine even when it does not answer. */
  readonly force: boolean;
  /** Close its agents' accounts too. */
  readonly purge?: AccountKeys;
  readonly admin: ServerAdmin;
  readonly steps: Steps;
  readonly clock?: Clock;
  /** Instead of {@link ANSWER_MS_MAX}. */
  readonly answerMs?: number;
};

export type AgentFate = {
  readonly user_id: UserId;
  /** `kept`: the account stays. `elsewhere`: it stays, because another machine runs it. */
  readonly account: "kept" | "closed" | "logged-out" | "elsewhere" | "failed";
};

export type Decommissioned = {
  readonly machine: MachineLocalpart;
  /** Whether the machine answered the request, did not in time, or was not asked. */
  readonly drain: "confirmed" | "no-answer" | "not-asked";
  /** Sandboxes it stopped; null when it did not report. */
  readonly stopped: number | null;
  readonly cleared: readonly string[];
  readonly removed_from: readonly string[];
  /** Rooms it is still in. Not empty: the removal failed. */
  readonly still_in: readonly string[];
  /** `locked`: its sessions ended and its password is random and discarded. `open`: no server admin was available. */
  readonly account: "locked" | "open";
  readonly agents: readonly AgentFate[];
  readonly problems: readonly string[];
};

/** @throws BureauError `not-found` for an unknown machine, `timeout` when it does not answer */
export async function decommissionMachine(options: DecommissionOptions): Promise<Decommissioned> {
  const { session, machine, steps } = options;
  const user = userIdOf(machine, serverOf(session.userId));
  const config = await knownMachine(session, machine);
  const found = await findMachineRooms(session, machine);
  const removal = removalOf(session, machine, found, "machine decommissioned");
  const agents = await agentsOf(session, machine);
  const drained = await drain(options, config, user);
  const fates = await closeAgents(options, removal, agents);
  const { all } = await runStep(steps, "Clearing its state in the rooms", () => clearState(removal));
  const kicked = await runStep(
    steps,
    "Removing it from its rooms",
    () => kickEverywhere(removal),
    (from) => (from.length === 0 ? "It is in no room" : `Removed from ${from.length} rooms`),
  );
  const account = await lockAccount(options, removal);
  const still = await finishRemoval(removal);
  return {
    machine,
    ...drained,
    cleared: all,
    removed_from: kicked,
    still_in: still,
    account,
    agents: fates,
    problems: removal.problems,
  };
}

export const removalOf = (
  session: MatrixSession,
  machine: MachineLocalpart,
  found: readonly FoundRoom[],
  reason: string,
): Removal => ({
  session,
  machine,
  reason,
  rooms: found,
  problems: [],
  user: userIdOf(machine, serverOf(session.userId)),
});

/** The config room of a machine. @throws BureauError `not-found` that names the machines of the fleet */
export async function knownMachine(session: MatrixSession, machine: MachineLocalpart): Promise<RoomId> {
  const room = await session.resolveAlias(aliasOf(rooms.config(machine), serverOf(session.userId)));
  if (room !== undefined) return room;
  const known = (await listMachines(session, fleetOf(machine))).map(({ name }) => name);
  throw new BureauError("not-found", `There is no machine "${machine}"`, {
    hint: known.length === 0 ? "the fleet has no machine yet" : `the fleet has ${known.join(", ")}`,
  });
}

/** Asks the machine to stop what it runs, and waits for its report. */
async function drain(
  options: DecommissionOptions,
  config: RoomId,
  user: UserId,
): Promise<Pick<Decommissioned, "drain" | "stopped">> {
  const { session, machine, steps, graceSeconds } = options;
  const name = localpartOf(user).split("/").slice(4).join("/");
  // A machine that never joined, or has left already, has nothing to stop.
  const isThere = (await membershipOf(session, config, user)) === "join";
  if (options.offline || !isThere) return { drain: "not-asked", stopped: null };
  const answerMs = options.answerMs ?? ANSWER_MS_MAX;
  const stopped = await runStep(
    steps,
    `Waiting for ${name} to stop its agents (${graceSeconds} s grace)`,
    async () => {
      const request = await ask(options, config, user);
      return waitFor(() => answerTo(session, config, user, request), {
        timeoutMs: graceSeconds * 1_000 + answerMs,
        clock: options.clock ?? systemClock,
      });
    },
    (count) =>
      count === undefined ? `${name} did not answer` : `${name} stopped ${count} sandboxes and left`,
  );
  if (stopped !== undefined) return { drain: "confirmed", stopped };
  if (options.force) return { drain: "no-answer", stopped: null };
  const seconds = graceSeconds + answerMs / 1_000;
  throw new BureauError(
    "timeout",
    `The machine "${machine}" did not report within ${seconds} s that it stopped its agents. It is still in the fleet; the request stays, and it stops when it reads it`,
    {
      hint: `remove it without its answer: bureau machine decommission ${machine} --force (its agents are then killed at once), or --offline when it is known to be off`,
    },
  );
}

/** Writes the request, unless the same one is there. Returns its event ID. */
async function ask(options: DecommissionOptions, config: RoomId, user: UserId): Promise<string> {
  const { session, graceSeconds } = options;
  const key = stateKeyOf(user);
  await guardRequest(session, config, options.clock ?? systemClock);
  const found = await session.stateEvent(config, eventTypes.machineDecommission, key);
  const present = found !== undefined && (await session.counts(config, found)) ? found : undefined;
  const standing = safeParse(MachineDecommissionSchema, present?.content);
  const answered = await session.getState(config, eventTypes.machineDecommissioned, key);
  const isAnswered = typeof answered === "object" && answered !== null && !isCleared({ ...answered });
  if (present !== undefined && standing.success)
    if (isAnswered || standing.output.grace_seconds === graceSeconds) return present.eventId;
  const content: MachineDecommission = {
    grace_seconds: graceSeconds,
    requested_by: session.userId,
    requested_at: timestamp(options.clock ?? systemClock),
  };
  return session.putState(config, eventTypes.machineDecommission, key, content);
}

/** Config rooms made by versions without these events let every member write them. */
async function guardRequest(session: MatrixSession, config: RoomId, clock: Clock): Promise<void> {
  const events = { [eventTypes.machineDecommission]: 100, [eventTypes.machineDecommissioned]: 50 };
  const levels = safeParse(PowerLevelsSchema, await session.getState(config, eventTypes.powerLevels, ""));
  const has = levels.success ? (levels.output.events ?? {}) : {};
  if (Object.entries(events).every(([type, level]) => has[type] === level)) return;
  await changePowerLevels(session, config, { events }, { clock });
}

/** How many sandboxes the machine stopped for this request; undefined while it has not reported. */
async function answerTo(
  session: MatrixSession,
  config: RoomId,
  user: UserId,
  request: string,
): Promise<number | undefined> {
  const content = await session.getState(config, eventTypes.machineDecommissioned, stateKeyOf(user));
  const answer = safeParse(MachineDecommissionedSchema, content);
  return answer.success && answer.output.request === request ? answer.output.stopped : undefined;
}

/** Its agents' accounts stay without `purge`; accounts of agents that another machine runs always stay. */
async function closeAgents(
  options: DecommissionOptions,
  removal: Removal,
  agents: readonly UserId[],
): Promise<AgentFate[]> {
  const { purge, steps, session, machine, admin } = options;
  if (purge === undefined || agents.length === 0)
    return Promise.all(agents.map((user_id) => keptFate(admin, user_id)));
  return runStep(steps, `Closing the accounts of ${agents.length} agents`, async () => {
    const elsewhere = await assignedElsewhere(session, machine, agents);
    const fates: AgentFate[] = [];
    for (const user_id of agents) {
      if (elsewhere.has(user_id)) {
        fates.push({ user_id, account: "elsewhere" });
        continue;
      }
      const closed = await attempt(removal, `close the account of ${user_id}`, async () => {
        await closeAgentAccount(user_id, purge, admin);
        return true;
      });
      fates.push({ user_id, account: closed === true ? "closed" : "failed" });
    }
    return fates;
  });
}

/** An earlier run may have closed it. */
const keptFate = async (admin: ServerAdmin, user_id: UserId): Promise<AgentFate> => ({
  user_id,
  account: (await admin.accountState(user_id)) === "deactivated" ? "closed" : "kept",
});

/**
 * Ends its sessions and sets a random password, which is discarded. The account itself stays: provisioning the name again,
 * by any implementation, only resets the password.
 */
async function lockAccount(
  options: DecommissionOptions,
  removal: Removal,
): Promise<Decommissioned["account"]> {
  const { admin, steps } = options;
  const shown = steps.step("Locking its account");
  const answer = await attempt(removal, "lock its account", () => lock(admin, removal.user));
  if (answer?.kind === "done") {
    shown.done("Its account is locked");
    return "locked";
  }
  shown.done("Its account stays open");
  if (answer?.kind === "refused")
    removal.problems.push(
      `Its account ${removal.user} could not be locked: ${answer.reason}. It is in no room of the fleet; to lock it, run this again with --admin-token-file PATH, the access token of a server admin`,
    );
  return "open";
}

/** A closed account is left alone: a new password would open it. */
async function lock(admin: ServerAdmin, user: UserId): Promise<AdminAnswer> {
  const state = await admin.accountState(user);
  if (typeof state === "object") return state;
  return state === "active" ? admin.resetPassword(user, randomHex(32)) : { kind: "done" };
}
