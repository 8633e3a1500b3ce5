/**
 * Revokes a machine that is no longer trusted, at once and without its help: closes its account, removes it from every
 * room, clears its state, publishes the revocation. The order is the wire's (section 10.3): the machine loses its session
 * first. Its daemon learns of it from its open sync and destroys every sandbox.
 *
 * The tokens of its agents were in its memory: their sessions are ended too, unless another machine runs them.
 */
import { type Clock, systemClock, timestamp } from "@bureau/kit/clock";
import { runStep, type Steps } from "@bureau/kit/run-step";
import { login } from "@bureau/matrix/auth";
import { MatrixError } from "@bureau/matrix/matrix-error";
import type { ServerAdmin } from "@bureau/matrix/server-admin";
import { MatrixSession } from "@bureau/matrix/session";
import { machinePasswordText } from "@bureau/schema/derived-passwords";
import { type CredentialRevocation, eventTypes } from "@bureau/schema/events";
import { type MachineLocalpart, stateKeyOf, type UserId } from "@bureau/schema/refs";
import { sha256Hex } from "../digest.ts";
import { findMachineRooms } from "../rooms/machine-rooms.ts";
import { type AgentFate, knownMachine, removalOf } from "./decommission.ts";
import {
  type AccountKeys,
  agentsOf,
  assignedElsewhere,
  closeAgentAccount,
  logOutAgent,
} from "./machine-agents.ts";
import { attempt, clearState, finishRemoval, kickEverywhere, type Removal } from "./machine-removal.ts";

export type RevokeOptions = {
  readonly session: MatrixSession;
  readonly machine: MachineLocalpart;
  readonly reason: string | undefined;
  readonly admin: ServerAdmin;
  /** The secret of accounts this administrator made, for use without a server admin. */
  readonly keys: AccountKeys | undefined;
  /** Close its agents' accounts, instead of only ending their sessions. */
  readonly purge: boolean;
  readonly steps: Steps;
  readonly clock?: Clock;
};

export type Revoked = {
  readonly machine: MachineLocalpart;
  /** `open`: its session stays valid, in no room; only a server admin can close the account. */
  readonly account: "deactivated" | "open";
  readonly removed_from: readonly string[];
  readonly still_in: readonly string[];
  readonly cleared: readonly string[];
  readonly agents: readonly AgentFate[];
  readonly problems: readonly string[];
};

/** @throws BureauError `not-found` for an unknown machine */
export async function revokeMachine(options: RevokeOptions): Promise<Revoked> {
  const { session, machine, steps } = options;
  await knownMachine(session, machine);
  const found = await findMachineRooms(session, machine);
  const removal = removalOf(session, machine, found, "machine credentials revoked");
  // Read before the state is cleared: afterwards the rooms no longer name its agents.
  const agents = (await attempt(removal, "find its agents", () => agentsOf(session, machine))) ?? [];
  const account = await runStep(
    steps,
    "Closing its account",
    () => closeAccount(options, removal),
    (closed) => (closed === "deactivated" ? "Its account is closed" : "Its account could not be closed"),
  );
  const kicked = await runStep(
    steps,
    "Removing it from its rooms",
    () => kickEverywhere(removal),
    ({ length }) => `Removed from ${length} rooms`,
  );
  const cleared = await runStep(steps, "Clearing its state in the rooms", () => clearState(removal));
  await runStep(steps, "Publishing the revocation", () =>
    publish(options, removal, agents, cleared.credentialKeys, account),
  );
  const fates = await endAgents(options, removal, agents);
  const still = await finishRemoval(removal);
  return {
    machine,
    account,
    removed_from: kicked,
    still_in: still,
    cleared: cleared.all,
    agents: fates,
    problems: removal.problems,
  };
}

async function closeAccount(options: RevokeOptions, removal: Removal): Promise<Revoked["account"]> {
  const answer = await attempt(removal, "close its account", () => options.admin.deactivate(removal.user));
  if (answer?.kind === "done") return "deactivated";
  const own = await attempt(removal, "close its account with its own password", () => enter(options));
  if (own !== undefined) {
    const closed = await attempt(removal, "close its account with its own password", async () => {
      await own.session.deactivate(own.password);
      return true;
    });
    if (closed === true) return "deactivated";
  }
  if (answer?.kind === "refused")
    removal.problems.push(
      `Its account ${removal.user} could not be closed: ${answer.reason}, and its password is unknown. It is removed from every room of the fleet, but its session stays valid; close it with: bureau machine revoke ${options.machine} --admin-token-file PATH, the access token of a server admin`,
    );
  return "open";
}

/**
 * The password of a machine that joined with the registration token follows from it (wire facts, section 9.13). Only the
 * machine itself can derive the password that it set when it joined with a bootstrap file.
 */
async function enter({
  session,
  keys,
  machine,
}: RevokeOptions): Promise<{ session: MatrixSession; password: string } | undefined> {
  if (keys === undefined) return undefined;
  const password = sha256Hex(machinePasswordText(machine, keys.registrationToken));
  const { homeserver } = keys;
  const { fetch } = session.server;
  try {
    const { userId, token } = await login({ homeserver, fetch, user: machine, password });
    return { session: new MatrixSession({ homeserver, fetch, userId, token }), password };
  } catch (error) {
    if (error instanceof MatrixError && (error.code === "forbidden" || error.code === "unauthorized"))
      return undefined;
    throw error;
  }
}

/** The record of the revocation (wire facts, section 3.10). */
async function publish(
  { session, reason, machine, clock }: RevokeOptions,
  removal: Removal,
  agents: readonly UserId[],
  credentialKeys: readonly string[],
  account: Revoked["account"],
): Promise<void> {
  const machines = removal.rooms.find(({ kind }) => kind === "fleet-machines")?.room;
  if (machines === undefined) return;
  const content: CredentialRevocation = {
    machine,
    machine_user_id: removal.user,
    ...(agents.length === 0 ? {} : { principals: [...agents] }),
    ...(credentialKeys.length === 0 ? {} : { credential_keys: [...credentialKeys] }),
    initiated_by: session.userId,
    initiated_at: timestamp(clock ?? systemClock),
    ...(reason === undefined ? {} : { reason }),
    account_deactivated: account === "deactivated",
  };
  await attempt(removal, "publish the revocation", () =>
    session.putState(machines, eventTypes.credentialRevocation, stateKeyOf(removal.user), content),
  );
}

async function endAgents(
  options: RevokeOptions,
  removal: Removal,
  agents: readonly UserId[],
): Promise<AgentFate[]> {
  const { keys, purge, session, machine, admin, steps } = options;
  if (agents.length === 0) return [];
  return runStep(steps, `Ending the sessions of its ${agents.length} agents`, async () => {
    const elsewhere = await assignedElsewhere(session, machine, agents);
    const fates: AgentFate[] = [];
    for (const user_id of agents) {
      const done = await attempt(removal, `end the sessions of ${user_id}`, async () => {
        if (elsewhere.has(user_id)) return "elsewhere";
        if (purge) await closeAgentAccount(user_id, keys, admin);
        else await logOutAgent(user_id, keys, admin);
        return purge ? "closed" : "logged-out";
      });
      fates.push({ user_id, account: done ?? "failed" });
    }
    return fates;
  });
}
