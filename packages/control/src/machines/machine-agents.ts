/** The principals of a machine that leaves: which they are, and how their accounts and sessions are closed. */
import { BureauError } from "@bureau/kit/errors";
import { login } from "@bureau/matrix/auth";
import { MatrixError } from "@bureau/matrix/matrix-error";
import type { AdminRefusal, ServerAdmin } from "@bureau/matrix/server-admin";
import { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, isCleared, PrincipalUserSchema } from "@bureau/schema/events";
import {
  fleetOf,
  type MachineLocalpart,
  principalOfUser,
  type UserId,
  userOfStateKey,
} from "@bureau/schema/refs";
import { safeParse } from "valibot";
import { randomHex } from "../digest.ts";
import { principalPassword } from "../principals/administrator.ts";
import { listMachines } from "./list-machines.ts";
import { configPlace, readAssignments, readLastAssignments } from "./machine-config.ts";

/** The administrator's secret: the passwords of principals follow from it. */
export type AccountKeys = { readonly registrationToken: string; readonly homeserver: string };

/**
 * The principals that are or were last assigned to the machine, have credentials for it, or are in its config room. Finds
 * them while the machine is half removed, too.
 */
export async function agentsOf(session: MatrixSession, machine: MachineLocalpart): Promise<UserId[]> {
  const place = await configPlace(session, machine);
  const sealed = (await session.getRoomState(place.room)).flatMap(({ type, stateKey, content }) =>
    type === eventTypes.credentials && !isCleared(content) ? [stateKey] : [],
  );
  const candidates = [
    ...(await readLastAssignments(session, place)).map(({ principal }) => principal),
    ...sealed.flatMap((key) => asPrincipal(key, userOfStateKey)),
    ...(await session.joinedMembers(place.room)),
  ];
  return [...new Set(candidates)].filter((user) => isAgentOf(user, machine)).sort();
}

function asPrincipal(key: string, parse: (key: string) => UserId): UserId[] {
  try {
    return [parse(key)];
  } catch {
    return [];
  }
}

/** People, the machine itself and the fleet's controller are members of its config room too. */
export function isAgentOf(user: UserId, machine: MachineLocalpart): boolean {
  if (!safeParse(PrincipalUserSchema, user).success) return false;
  const principal = principalOfUser(user);
  const fleet = fleetOf(machine);
  return (
    fleetOf(principal) === fleet &&
    !principal.startsWith(`${fleet}/machine/`) &&
    principal !== `${fleet}/service/fleet`
  );
}

/** The agents that another machine of the fleet runs as well. */
export async function assignedElsewhere(
  session: MatrixSession,
  machine: MachineLocalpart,
  agents: readonly UserId[],
): Promise<Set<UserId>> {
  const elsewhere = new Set<UserId>();
  if (agents.length === 0) return elsewhere;
  for (const other of await listMachines(session, fleetOf(machine))) {
    if (other.name === machine) continue;
    const { assignments } = await readAssignments(
      session,
      await configPlace(session, other.name as MachineLocalpart),
    );
    for (const { principal } of assignments) if (agents.includes(principal)) elsewhere.add(principal);
  }
  return elsewhere;
}

/** A session of the principal, by the password that its administrator gave it. */
async function enter(
  user: UserId,
  keys: AccountKeys,
  { server }: ServerAdmin,
): Promise<{ own: MatrixSession; password: string }> {
  const { homeserver, registrationToken } = keys;
  const { fetch } = server;
  const principal = principalOfUser(user);
  const password = principalPassword(principal, registrationToken);
  const { userId, token } = await login({ homeserver, fetch, user: principal, password });
  return { own: new MatrixSession({ homeserver, fetch, userId, token }), password };
}

/**
 * Ends every session of a principal, so that tokens from a machine become invalid. A server admin can do so for every
 * principal; without one, only for principals that this administrator made, with their own passwords.
 */
export async function logOutAgent(
  user: UserId,
  keys: AccountKeys | undefined,
  admin: ServerAdmin,
): Promise<void> {
  const password =
    keys === undefined ? randomHex(32) : principalPassword(principalOfUser(user), keys.registrationToken);
  const answer = await admin.endSessions(user, password);
  if (answer.kind === "done") return;
  await enterOr(answer, user, keys, admin, ({ own }) => own.logout(true));
}

/** Closes the account with its own password, after the server admin API refused. @throws BureauError with both reasons and the next command */
async function enterOr(
  refused: AdminRefusal,
  user: UserId,
  keys: AccountKeys | undefined,
  admin: ServerAdmin,
  act: (entered: { own: MatrixSession; password: string }) => Promise<void>,
): Promise<void> {
  const entered =
    keys === undefined
      ? undefined
      : await enter(user, keys, admin).catch((error: unknown) => {
          if (error instanceof MatrixError && error.code === "forbidden") return undefined;
          throw error;
        });
  if (entered !== undefined) return act(entered);
  throw new BureauError(
    "forbidden",
    `${refused.reason}, and its password is unknown: run this again with --admin-token-file PATH, the access token of a server admin`,
  );
}

/** Closes its account permanently: as the server admin, else with its own password. */
export async function closeAgentAccount(
  user: UserId,
  keys: AccountKeys | undefined,
  admin: ServerAdmin,
): Promise<void> {
  const answer = await admin.deactivate(user);
  if (answer.kind === "done") return;
  await enterOr(answer, user, keys, admin, ({ own, password }) => own.deactivate(password));
}
