/** Who may do what on one machine, from its configuration and every policy and temporal grant in its rooms. Pure. */
import type { RoomStates } from "@bureau/matrix/room-state";
import type { AuthorizationPolicy } from "@bureau/schema/authorization";
import { AuthorizationIndex, type PolicySource } from "@bureau/schema/authorization-index";
import { eventTypes } from "@bureau/schema/events";
import { ADMIN_LEVEL } from "@bureau/schema/power";
import type { RoomId, UserId } from "@bureau/schema/refs";
import { type Assignments, policySources } from "./policy-sources.ts";
import { roomPolicy, roomPolicyEvent } from "./room-policies.ts";
import { temporalGrants } from "./temporal-grants.ts";

export type PolicyRooms = {
  readonly configRoom: RoomId;
  readonly states: RoomStates;
  /** Undefined for a room whose members are not known yet. */
  readonly members: { of(room: RoomId): ReadonlySet<UserId> | undefined };
};

export type MachineIndex = {
  readonly index: AuthorizationIndex;
  /** Rooms whose policy needs their members. */
  readonly policyRooms: ReadonlySet<RoomId>;
};

/** `fault` gets a sentence on each policy and grant that does not count. */
export function machineIndex(
  rooms: PolicyRooms,
  defaultPolicy: AuthorizationPolicy,
  assigned: Assignments,
  fault: (sentence: string) => void,
): MachineIndex {
  const { configRoom, states } = rooms;
  const { sources, policyRooms } = roomPolicies(rooms, assigned, fault);
  const lasting = [...policySources(defaultPolicy, assigned), ...sources];
  const grants = states
    .joinedRooms()
    .flatMap((room) => states.room(room)?.ofType(eventTypes.temporalGrant) ?? []);
  if (grants.length === 0) return { index: new AuthorizationIndex(lasting), policyRooms };
  const config = states.room(configRoom);
  const approvals = {
    // A workspace's policy makes no approver: its administrators need no right on this machine.
    index: new AuthorizationIndex(
      lasting.filter(({ name }) => !name.startsWith("room:") || name === `room:${configRoom}`),
    ),
    isAdministrator: (user: string) => (config?.levelOf(user) ?? 0) >= ADMIN_LEVEL,
  };
  const temporal = temporalGrants(grants, approvals, fault);
  return { index: new AuthorizationIndex([...lasting, temporal]), policyRooms };
}

function roomPolicies(
  { configRoom, states, members }: PolicyRooms,
  assigned: Assignments,
  fault: (sentence: string) => void,
): { readonly sources: PolicySource[]; readonly policyRooms: ReadonlySet<RoomId> } {
  const policed = new Set<RoomId>([configRoom]);
  for (const policies of assigned.values())
    if (policies?.workspace !== undefined) policed.add(policies.workspace);
  const policyRooms = new Set<RoomId>();
  const sources: PolicySource[] = [];
  for (const room of policed) {
    const view = states.room(room);
    if (view === undefined || roomPolicyEvent(view) === undefined) continue;
    policyRooms.add(room);
    const concerns = (user: UserId): boolean =>
      room === configRoom || !assigned.has(user) || assigned.get(user)?.workspace === room;
    const source = roomPolicy({ room, view, members: members.of(room), concerns }, fault);
    if (source !== undefined) sources.push(source);
  }
  return { sources, policyRooms };
}
