/**
 * The policies of rooms (`m.bureau.authorization`): rules for the members of a room, and for those with a power level in
 * it. The config room's policy is for every member; a workspace's is for its own principals, and for members that are
 * no principals of this machine. Pure.
 */
import type { StateEvent } from "@bureau/matrix/event";
import type { RoomView } from "@bureau/matrix/room-state";
import type { AuthorizationPolicy } from "@bureau/schema/authorization";
import { type RoomAuthorization, RoomAuthorizationSchema } from "@bureau/schema/authorization-events";
import type { PolicySource } from "@bureau/schema/authorization-index";
import { eventTypes, isCleared } from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";
import type { RoomId, UserId } from "@bureau/schema/refs";

export type PolicyRoom = {
  readonly room: RoomId;
  readonly view: RoomView;
  /** Undefined: not known yet; the room's policy holds for no user then. */
  readonly members: ReadonlySet<UserId> | undefined;
  /** Whether the policy may be for `user`, if a member. */
  readonly concerns: (user: UserId) => boolean;
};

/** The event of a room that has a policy. */
export function roomPolicyEvent(view: RoomView): StateEvent | undefined {
  const event = view.get(eventTypes.authorization, "");
  return event === undefined || isCleared(event.content) ? undefined : event;
}

/** Undefined when the room has no policy that can be read; `fault` gets a sentence then. */
export function roomPolicy(
  { room, view, members, concerns }: PolicyRoom,
  fault: (sentence: string) => void,
): PolicySource | undefined {
  const event = roomPolicyEvent(view);
  if (event === undefined || members === undefined) return undefined;
  const tiers = tiersOf(event);
  if (typeof tiers === "string") {
    fault(`The policy of room ${room} is ignored: ${tiers}`);
    return undefined;
  }
  return {
    name: `room:${room}`,
    users: new Set([...members].filter(concerns)),
    policiesOf: (user) =>
      members.has(user) && concerns(user)
        ? tiers.filter(({ level }) => view.levelOf(user) >= level).map(({ policy }) => policy)
        : [],
  };
}

/** The rules for members from one power level on. */
type Tier = { readonly level: number; readonly policy: AuthorizationPolicy };

/** By event, so that a policy is the same object until the event changes. */
const byEvent = new WeakMap<StateEvent, readonly Tier[] | string>();

/** A sentence when the event cannot be read. */
function tiersOf(event: StateEvent): readonly Tier[] | string {
  const known = byEvent.get(event) ?? readTiers(event);
  byEvent.set(event, known);
  return known;
}

function readTiers(event: StateEvent): readonly Tier[] | string {
  let content: RoomAuthorization;
  try {
    content = parse(RoomAuthorizationSchema, event.content, "m.bureau.authorization");
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  const { member_grants, member_allowances, power_level_grants = {}, power_level_allowances = {} } = content;
  const levels = new Set([...Object.keys(power_level_grants), ...Object.keys(power_level_allowances)]);
  return [
    { level: Number.NEGATIVE_INFINITY, policy: { grants: member_grants, allowances: member_allowances } },
    ...[...levels].map((level) => ({
      level: Number(level),
      policy: { grants: power_level_grants[level], allowances: power_level_allowances[level] },
    })),
  ];
}
