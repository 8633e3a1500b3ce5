/** The rooms a machine belongs to, with the power it holds there, and whether it is in them (wire facts, section 2.5). */
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import {
  aliasOf,
  fleetOf,
  type Localpart,
  type MachineLocalpart,
  namespaceOf,
  type RoomId,
  rooms,
  serverOf,
  type UserId,
} from "@bureau/schema/refs";
import type { RoomKind } from "./room-catalogue.ts";

export type MachineRoom = { readonly kind: RoomKind; readonly localpart: Localpart };
export type FoundRoom = MachineRoom & { readonly room: RoomId };

/** Its own rooms: config and ops. */
export const ownRooms = (machine: MachineLocalpart): readonly MachineRoom[] => [
  { kind: "config", localpart: rooms.config(machine) },
  { kind: "ops", localpart: rooms.ops(machine) },
];

/** The rooms it shares, in the order in which a machine that leaves is removed from them. */
export function sharedRooms(machine: MachineLocalpart): readonly MachineRoom[] {
  const fleet = fleetOf(machine);
  const namespace = namespaceOf(machine);
  return [
    { kind: "template", localpart: rooms.template(namespace) },
    { kind: "pipeline", localpart: rooms.pipeline(namespace) },
    { kind: "system", localpart: rooms.system(namespace) },
    { kind: "fleet-machines", localpart: rooms.fleetMachines(fleet) },
    { kind: "fleet-services", localpart: rooms.fleetServices(fleet) },
    { kind: "fleet", localpart: rooms.fleet(fleet) },
  ];
}

/** The machine's rooms that exist, its own first. */
export async function findMachineRooms(
  session: MatrixSession,
  machine: MachineLocalpart,
): Promise<FoundRoom[]> {
  const server = serverOf(session.userId);
  const found = await Promise.all(
    [...ownRooms(machine), ...sharedRooms(machine)].map(async (one) => {
      const room = await session.resolveAlias(aliasOf(one.localpart, server));
      return room === undefined ? [] : [{ ...one, room }];
    }),
  );
  return found.flat();
}

/** `join`, `invite`, `leave`, …; `leave` for a user who was never there. */
export async function membershipOf(session: MatrixSession, room: RoomId, user: UserId): Promise<string> {
  const member = await session.getState(room, eventTypes.member, user);
  return typeof member === "object" &&
    member !== null &&
    "membership" in member &&
    typeof member.membership === "string"
    ? member.membership
    : "leave";
}

/** Invited or joined. */
export const isMember = (membership: string): boolean => membership === "join" || membership === "invite";
