/**
 * Prepares a machine's place in a fleet before the machine joins: an account with a one-time password, a config and an
 * ops room, invitations to the rooms it works in. Effects and their order are the wire's (section 10.3), with one
 * exception: the bootstrap is stored before the account is made, so that an interruption never leaves an account with an
 * unknown password.
 *
 * Needs nothing of the machine itself. An account that exists gets a new password only when its machine has left, or
 * never joined: a machine of the fleet keeps its password.
 */
import { type Clock, systemClock } from "@bureau/kit/clock";
import { BureauError, isBureauError } from "@bureau/kit/errors";
import { login, registerWithToken } from "@bureau/matrix/auth";
import { MatrixError } from "@bureau/matrix/matrix-error";
import { NO_RATE_LIMIT, type ServerAdmin } from "@bureau/matrix/server-admin";
import { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, isCleared, PowerLevelsSchema } from "@bureau/schema/events";
import { ADMIN_LEVEL } from "@bureau/schema/power";
import {
  aliasOf,
  fleetOf,
  type MachineLocalpart,
  type RoomId,
  rooms,
  serverOf,
  stateKeyOf,
  type UserId,
  userIdOf,
} from "@bureau/schema/refs";
import { safeParse } from "valibot";
import { stateOfOurs } from "../rooms/found-room.ts";
import { dropMachineLevels, namedMachines } from "../rooms/machine-levels.ts";
import { findMachineRooms, isMember, membershipOf, ownRooms, sharedRooms } from "../rooms/machine-rooms.ts";
import { ensureMachineRooms } from "../rooms/namespace-setup.ts";
import { roomOf } from "../rooms/places.ts";
import type { RoomKind } from "../rooms/room-catalogue.ts";
import { type Bootstrap, type BootstrapStore, hasExpired, newBootstrap } from "./bootstrap.ts";
import { readConfigParts } from "./config-parts.ts";

export type ProvisionOptions = {
  readonly session: MatrixSession;
  readonly registrationToken: string;
  readonly homeserver: string;
  /** The homeserver's address as the machine sees it; the same when it is not given. */
  readonly machineHomeserver?: string;
  readonly machine: MachineLocalpart;
  /**
   * Keeps the bootstrap. What an earlier, interrupted provisioning left there is used. Without a store the bootstrap is
   * only returned, and an interruption costs another password.
   */
  readonly store?: BootstrapStore;
  /**
   * The machine's own launcher reads the store. Its password is then not checked: the launcher may have changed it and
   * not removed the file yet.
   */
  readonly launcherReadsStore?: boolean;
  /** First boot refuses the bootstrap after this long. */
  readonly expiresInMs?: number;
  /** The server admin that may reset an account's password and lift rate limits. */
  readonly admin?: ServerAdmin;
  readonly clock?: Clock;
};

export type Provisioned = {
  readonly bootstrap: Bootstrap;
  /** `created`: a new account. `resumed`: the stored bootstrap is still good. `reissued`: the account has a new password. */
  readonly account: "created" | "resumed" | "reissued";
  readonly userId: UserId;
  readonly configRoom: RoomId;
  readonly opsRoom: RoomId;
};

/**
 * Prepares the machine's account and rooms; run again after an interruption, it completes what is missing.
 * @throws BureauError `conflict` when the machine is a member of the fleet or its rooms belong to a stranger, `forbidden`
 * when its account needs a new password and none of the given keys may set one
 */
export async function provisionMachine(options: ProvisionOptions): Promise<Provisioned> {
  const { session, machine } = options;
  const user = userIdOf(machine, serverOf(session.userId));
  const kept = options.store?.read();
  // What would fail later is checked before the account is made.
  const shared: [room: RoomId, kind: RoomKind][] = [];
  for (const { kind, localpart } of sharedRooms(machine))
    shared.push([await roomOf(session, localpart), kind]);
  for (const own of ownRooms(machine)) {
    const room = await session.resolveAlias(aliasOf(own.localpart, serverOf(user)));
    if (room !== undefined) await stateOfOurs(session, { ...own, room });
  }
  for (const [room, kind] of shared) if (namedMachines(kind)) await dropMachineLevels(session, room);
  const { bootstrap, account } = await prepareAccount(options, user, kept);
  try {
    if (account !== "resumed") await options.admin?.setRateLimit(user, NO_RATE_LIMIT);
    await forgetDeparture(session, machine, user);
    const fleetRoom = await roomOf(session, rooms.fleet(fleetOf(machine)));
    const own = await ensureMachineRooms(session, machine, await initialConfig(session, fleetRoom));
    for (const [room] of shared) await inviteUnlessThere(session, room, user);
    return { bootstrap, account, userId: user, configRoom: own.config, opsRoom: own.ops };
  } catch (error) {
    throw unfinished(error, machine);
  }
}

/** The account stays: its bootstrap is stored, and the same command completes the rest. */
function unfinished(error: unknown, machine: MachineLocalpart): unknown {
  if (!isBureauError(error)) return error;
  return new BureauError(
    error.code,
    `The machine "${machine}" has its account, but its rooms are not complete`,
    {
      cause: error,
      hint: "type the same command again: it completes what is missing",
    },
  );
}

async function prepareAccount(
  options: ProvisionOptions,
  user: UserId,
  kept: Bootstrap | undefined,
): Promise<Pick<Provisioned, "bootstrap" | "account">> {
  const { machine, store } = options;
  const clock = options.clock ?? systemClock;
  const fresh = (): Bootstrap =>
    newBootstrap({
      homeserver: options.machineHomeserver ?? options.homeserver,
      server: serverOf(user),
      machine,
      expiresInMs: options.expiresInMs,
      clock,
    });
  const write = (made: Bootstrap): Bootstrap => {
    store?.write(made);
    return made;
  };
  const usable = kept !== undefined && !hasExpired(kept, clock) ? kept : undefined;
  // An expired bootstrap stays until its successor is written: it may hold the only known password.
  const bootstrap = usable ?? (kept === undefined ? write(fresh()) : fresh());
  const registered = await registerWithToken({
    homeserver: options.homeserver,
    fetch: options.session.server.fetch,
    username: machine,
    password: bootstrap.password,
    registrationToken: options.registrationToken,
  });
  if (!registered.inUse) return { bootstrap: write(bootstrap), account: "created" };
  if (usable !== undefined && (options.launcherReadsStore === true || (await opens(options, usable)))) {
    if (options.expiresInMs === undefined) return { bootstrap: usable, account: "resumed" };
    return { bootstrap: write({ ...fresh(), password: usable.password }), account: "resumed" };
  }
  const made = usable === undefined ? bootstrap : fresh();
  try {
    await requireAbsent(options, user);
    await changePassword(options, user, made.password, kept?.password);
  } catch (error) {
    // A stored password that opens nothing would mislead.
    if (kept === undefined) store?.remove();
    throw error;
  }
  return { bootstrap: write(made), account: "reissued" };
}

/** Whether the account still has the password of this bootstrap. */
async function opens(options: ProvisionOptions, { password }: Bootstrap): Promise<boolean> {
  const own = await enter(options, password);
  await own?.logout();
  return own !== undefined;
}

async function enter(options: ProvisionOptions, password: string): Promise<MatrixSession | undefined> {
  const { session, homeserver, machine } = options;
  try {
    const { userId, token } = await login({
      homeserver,
      fetch: session.server.fetch,
      user: machine,
      password,
    });
    return new MatrixSession({ homeserver, fetch: session.server.fetch, userId, token });
  } catch (error) {
    if (error instanceof MatrixError && (error.code === "forbidden" || error.code === "unauthorized"))
      return undefined;
    throw error;
  }
}

/** A machine that joined and has not left keeps its account. @throws BureauError `conflict` */
async function requireAbsent({ session, machine }: ProvisionOptions, user: UserId): Promise<void> {
  const found = await findMachineRooms(session, machine);
  const joined: string[] = [];
  for (const { room, localpart } of found)
    if ((await membershipOf(session, room, user)) === "join") joined.push(localpart);
  const machines = found.find(({ kind }) => kind === "fleet-machines")?.room;
  const published: string[] = [];
  for (const type of [eventTypes.machineKey, eventTypes.machineStatus]) {
    const content =
      machines === undefined ? undefined : await session.getState(machines, type, stateKeyOf(user));
    if (typeof content === "object" && content !== null && !isCleared({ ...content })) published.push(type);
  }
  if (joined.length === 0 && published.length === 0) return;
  const why =
    joined.length > 0 ? `it is in ${joined.join(", ")}` : `its ${published.join(" and ")} is not cleared`;
  throw new BureauError(
    "conflict",
    `Cannot provision "${machine}": the machine is part of the fleet: ${why}`,
    {
      hint: `remove it first: bureau machine decommission ${machine}; or choose another name`,
    },
  );
}

/** @throws BureauError `forbidden` that names who could do it */
async function changePassword(
  options: ProvisionOptions,
  user: UserId,
  password: string,
  known: string | undefined,
): Promise<void> {
  const answer = await options.admin?.resetPassword(user, password);
  if (answer?.kind === "done") return;
  const own = known === undefined ? undefined : await enter(options, known);
  if (own !== undefined && known !== undefined) return own.changePassword(known, password);
  throw new BureauError(
    "forbidden",
    `Cannot provision "${options.machine}" again: its account needs a new password, which only a server admin can give it` +
      (answer === undefined ? "" : ` (${answer.reason})`),
    {
      hint: "--admin-token-file PATH with the access token of a server admin; or choose another machine name",
    },
  );
}

/**
 * Clears what an earlier machine of this name left: requests to leave would end the new one, and it would run what is in pages
 * that an implementation without them did not clear.
 */
async function forgetDeparture(
  session: MatrixSession,
  machine: MachineLocalpart,
  user: UserId,
): Promise<void> {
  const config = await session.resolveAlias(aliasOf(rooms.config(machine), serverOf(user)));
  if (config === undefined) return;
  for (const type of [eventTypes.machineDecommission, eventTypes.machineDecommissioned]) {
    const content = await session.getState(config, type, stateKeyOf(user));
    if (typeof content === "object" && content !== null && !isCleared({ ...content }))
      await session.putState(config, type, stateKeyOf(user), {});
  }
  const [, ...pages] = await readConfigParts(session, { room: config, key: stateKeyOf(user) });
  for (const { at, content } of pages)
    if (!isCleared(content)) await session.putState(at.room, at.type, at.key, {});
}

/** An empty desired state; its default policy lets the administrators of the fleet observe what runs there. */
async function initialConfig(session: MatrixSession, fleet: RoomId): Promise<object> {
  const levels = safeParse(PowerLevelsSchema, await session.getState(fleet, eventTypes.powerLevels, ""));
  const named = Object.entries(levels.success ? (levels.output.users ?? {}) : {});
  const admins = named.filter(([, level]) => level >= ADMIN_LEVEL).map(([user]) => user);
  // The creator of a room has all power in some versions without being named.
  const actors = [...new Set([session.userId, ...admins])].map((user) => user.slice(1));
  return { principals: [], default_policy: { allowances: [{ actions: ["observe/**"], actors }] } };
}

/** Invites unless the user has joined or is invited already. Returns the earlier membership. */
export async function inviteUnlessThere(session: MatrixSession, room: RoomId, user: UserId): Promise<string> {
  const membership = await membershipOf(session, room, user);
  if (!isMember(membership)) await session.inviteUser(room, user);
  return membership;
}
