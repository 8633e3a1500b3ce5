/**
 * Updates the rooms of machines that an earlier version provisioned: full power levels, and no principals in the config
 * room (decision 31).
 */
import type { StateEvent } from "@bureau/matrix/event";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, PowerLevelsSchema } from "@bureau/schema/events";
import { aliasOf, type MachineLocalpart, type Namespace, type RoomId, serverOf } from "@bureau/schema/refs";
import { safeParse } from "valibot";
import { completeLevels, type Note, stateOfOurs } from "../rooms/found-room.ts";
import { ownRooms } from "../rooms/machine-rooms.ts";
import { ensureFleet } from "../rooms/namespace-setup.ts";
import { ensureOperatorGrants } from "../rooms/operator-policy.ts";
import { listFleets } from "../rooms/places.ts";
import { listMachines } from "./list-machines.ts";
import { isAgentOf } from "./machine-agents.ts";

/** The rooms of every fleet of a namespace, and of their machines. */
export async function repairFleets(session: MatrixSession, namespace: Namespace, note: Note): Promise<void> {
  for (const { fleet } of await listFleets(session, namespace)) {
    await ensureFleet(session, fleet, [], note);
    for (const { name } of await listMachines(session, fleet))
      await repairMachineRooms(session, name as MachineLocalpart, note);
  }
}

/** Changes nothing in rooms that are up to date. @throws BureauError `conflict` for a stranger's room */
export async function repairMachineRooms(
  session: MatrixSession,
  machine: MachineLocalpart,
  note: Note,
): Promise<void> {
  for (const { kind, localpart } of ownRooms(machine)) {
    const room = await session.resolveAlias(aliasOf(localpart, serverOf(session.userId)));
    if (room === undefined) continue;
    const found = { room, kind, localpart };
    const state = await stateOfOurs(session, found);
    // Levels are raised last: lower levels show an unfinished repair.
    if (kind === "config" && isOfEarlierKind(state)) await removePrincipals(session, room, machine, note);
    if (kind === "config" && (await ensureOperatorGrants(session, room)))
      note(`gave the administrators of the config room of ${machine} their grants`);
    await completeLevels(session, found, state, note);
  }
}

/**
 * Whether an earlier version of ours made the room; it brought principals in. Rooms of the Go implementation never name
 * the type, and its principals stay: their programs expect to be in the room.
 */
function isOfEarlierKind(state: readonly StateEvent[]): boolean {
  const levels = state.find(({ type }) => type === eventTypes.powerLevels)?.content;
  const parsed = safeParse(PowerLevelsSchema, levels);
  if (!parsed.success) return false;
  const { state_default, events = {} } = parsed.output;
  return state_default === 0 && Object.hasOwn(events, eventTypes.machineVersion);
}

async function removePrincipals(
  session: MatrixSession,
  room: RoomId,
  machine: MachineLocalpart,
  note: Note,
): Promise<void> {
  const agents = (await session.joinedMembers(room)).filter((user) => isAgentOf(user, machine));
  for (const user of agents) await session.kickUser(room, user, "principals are not members of config rooms");
  if (agents.length > 0) note(`removed ${agents.length} principals from the config room of ${machine}`);
}
