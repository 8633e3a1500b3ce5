/**
 * Removes a machine from its fleet, without its help: the common part of decommission and revoke (wire facts, section
 * 10.3). Each step reads before it writes, so that a second run does only what is left. A step that fails is recorded as a
 * problem, and the others run.
 */
import { messageOf } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, isCleared, ServiceSchema } from "@bureau/schema/events";
import { type MachineLocalpart, type RoomId, stateKeyOf, type UserId } from "@bureau/schema/refs";
import { safeParse } from "valibot";
import { type FoundRoom, isMember, membershipOf } from "../rooms/machine-rooms.ts";
import type { RoomKind } from "../rooms/room-catalogue.ts";

export type Removal = {
  readonly session: MatrixSession;
  readonly machine: MachineLocalpart;
  readonly user: UserId;
  readonly rooms: readonly FoundRoom[];
  /** The reason that members of the rooms see. */
  readonly reason: string;
  /** Steps that failed, each a sentence. */
  readonly problems: string[];
};

/** Runs one step; its error becomes a problem. */
export async function attempt<T>(
  removal: Removal,
  what: string,
  act: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await act();
  } catch (error) {
    removal.problems.push(`Cannot ${what}: ${messageOf(error)}`);
    return undefined;
  }
}

const roomOfKind = (removal: Removal, kind: RoomKind): RoomId | undefined =>
  removal.rooms.find((room) => room.kind === kind)?.room;

/** Writes `{}` over content. Returns what was cleared, as `type key`. */
async function clear(removal: Removal, room: RoomId, type: string, key: string): Promise<string[]> {
  const { session } = removal;
  const cleared = await attempt(removal, `clear ${type}`, async () => {
    const content = await session.getState(room, type, key);
    if (typeof content !== "object" || content === null || isCleared({ ...content })) return [];
    await session.putState(room, type, key, {});
    return [`${type} ${key}`];
  });
  return cleared ?? [];
}

/** The machine's key, facts and heartbeat, which is in its config room too. */
async function clearFacts(removal: Removal): Promise<string[]> {
  const machines = roomOfKind(removal, "fleet-machines");
  const cleared: string[] = [];
  if (machines === undefined) return cleared;
  for (const type of [eventTypes.machineKey, eventTypes.machineStatus, eventTypes.machineInfo])
    cleared.push(...(await clear(removal, machines, type, stateKeyOf(removal.user))));
  const config = roomOfKind(removal, "config");
  if (config !== undefined)
    cleared.push(...(await clear(removal, config, eventTypes.machineStatus, stateKeyOf(removal.user))));
  return cleared;
}

/**
 * Clears the machine's state in the wire's order: key, status, configuration, credentials; then its reservations, and the
 * services it offered.
 */
export async function clearState(removal: Removal): Promise<{ all: string[]; credentialKeys: string[] }> {
  const { user } = removal;
  const key = stateKeyOf(user);
  const all = await clearFacts(removal);
  const credentialKeys: string[] = [];
  const config = roomOfKind(removal, "config");
  if (config !== undefined) {
    all.push(...(await clear(removal, config, eventTypes.machineConfig, key)));
    for (const page of await keysOf(removal, config, eventTypes.machineConfigPage))
      all.push(...(await clear(removal, config, eventTypes.machineConfigPage, page)));
    for (const stateKey of await keysOf(removal, config, eventTypes.credentials)) {
      const cleared = await clear(removal, config, eventTypes.credentials, stateKey);
      if (cleared.length > 0) credentialKeys.push(stateKey);
      all.push(...cleared);
    }
  }
  if (config !== undefined)
    for (const stateKey of await keysOf(removal, config, eventTypes.credentialKeys))
      all.push(...(await clear(removal, config, eventTypes.credentialKeys, stateKey)));
  const ops = roomOfKind(removal, "ops");
  if (ops !== undefined) {
    all.push(...(await clear(removal, ops, eventTypes.reservation, key)));
    all.push(...(await clear(removal, ops, eventTypes.machineDrain, "")));
  }
  all.push(...(await clearServices(removal)));
  return { all, credentialKeys };
}

async function clearServices(removal: Removal): Promise<string[]> {
  const room = roomOfKind(removal, "fleet-services");
  if (room === undefined) return [];
  const offered = await attempt(removal, "read the services of the fleet", async () =>
    (await removal.session.getRoomState(room)).filter(({ type, content }) => {
      const service = safeParse(ServiceSchema, content);
      return type === eventTypes.service && service.success && service.output.machine === removal.user;
    }),
  );
  const cleared: string[] = [];
  for (const { stateKey } of offered ?? [])
    cleared.push(...(await clear(removal, room, eventTypes.service, stateKey)));
  return cleared;
}

async function keysOf(removal: Removal, room: RoomId, type: string): Promise<string[]> {
  const found = await attempt(removal, `read ${type}`, async () =>
    (await removal.session.getRoomState(room))
      .filter((event) => event.type === type)
      .map(({ stateKey }) => stateKey),
  );
  return found ?? [];
}

/** Removes the machine from every room that it is in, or invited to. Returns their alias localparts. */
export async function kickEverywhere(removal: Removal): Promise<string[]> {
  const { session, user, reason } = removal;
  const kicked: string[] = [];
  for (const { room, localpart } of removal.rooms) {
    await attempt(removal, `remove the machine from ${localpart}`, async () => {
      if (!isMember(await membershipOf(session, room, user))) return;
      try {
        await session.kickUser(room, user, reason);
      } catch (error) {
        // It may have left in between: a homeserver removes a closed account from its rooms.
        if (isMember(await membershipOf(session, room, user))) throw error;
      }
      kicked.push(localpart);
    });
  }
  return kicked;
}

/**
 * The last step: clears a heartbeat that was written meanwhile, and the request to leave, so that the name can be used
 * again. Returns the rooms that the machine is still in.
 */
export async function finishRemoval(removal: Removal): Promise<string[]> {
  const { session, user } = removal;
  const still: string[] = [];
  for (const { room, localpart } of removal.rooms) {
    const membership = await attempt(removal, `check whether the machine is still in ${localpart}`, () =>
      membershipOf(session, room, user),
    );
    if (membership === undefined || isMember(membership)) still.push(localpart);
  }
  if (still.length > 0) return still;
  await clearFacts(removal);
  const config = roomOfKind(removal, "config");
  if (config !== undefined)
    for (const type of [eventTypes.machineDecommission, eventTypes.machineDecommissioned])
      await clear(removal, config, type, stateKeyOf(user));
  return still;
}
