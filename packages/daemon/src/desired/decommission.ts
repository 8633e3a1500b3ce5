/**
 * The request that a machine stop everything and leave, as its config room has it. Everybody in that room may write state
 * nobody thought of (its `state_default` is 0), so what counts is who wrote it: only somebody who holds the room's full
 * power can end a machine. A request that cannot be read ends nothing.
 */
import type { RoomView } from "@bureau/matrix/room-state";
import {
  DECOMMISSION_GRACE_SECONDS_MAX,
  eventTypes,
  isCleared,
  MachineDecommissionSchema,
  PowerLevelsSchema,
} from "@bureau/schema/events";
import type { EntityStateKey, RoomId } from "@bureau/schema/refs";
import { safeParse } from "valibot";

export type Decommission = {
  readonly room: RoomId;
  /** Event ID of the request; the answer names it. */
  readonly request: string;
  /** Between SIGTERM and SIGKILL, for every sandbox. */
  readonly graceMs: number;
};

/** What an administrator holds. */
const ADMIN_LEVEL = 100;
/** From this room version on creators have all power and are not named in power levels. */
const CREATORS_RULE_FROM = 12;

/** Undefined: nobody with the power asked. `fault` says why an event there does not count. */
export function readDecommission(
  room: RoomId,
  view: RoomView,
  machine: EntityStateKey,
  fault: (sentence: string) => void = () => {},
): Decommission | undefined {
  const event = view.get(eventTypes.machineDecommission, machine);
  if (event === undefined || isCleared(event.content)) return undefined;
  if (!isAdministrator(view, event.sender)) {
    fault(`${event.sender} asked this machine to leave, which only an administrator may`);
    return undefined;
  }
  const parsed = safeParse(MachineDecommissionSchema, event.content);
  if (!parsed.success) {
    fault("the request that this machine leave cannot be read");
    return undefined;
  }
  const seconds = Math.min(parsed.output.grace_seconds, DECOMMISSION_GRACE_SECONDS_MAX);
  return { room, request: event.eventId, graceMs: seconds * 1_000 };
}

function isAdministrator(view: RoomView, user: string): boolean {
  if (isCreator(view, user)) return true;
  const levels = safeParse(PowerLevelsSchema, view.get(eventTypes.powerLevels, "")?.content);
  if (!levels.success) return false;
  return (levels.output.users?.[user] ?? levels.output.users_default ?? 0) >= ADMIN_LEVEL;
}

/** True in rooms whose creators need no level. */
function isCreator(view: RoomView, user: string): boolean {
  const create = view.get("m.room.create", "");
  if (create === undefined || !(Number(create.content["room_version"]) >= CREATORS_RULE_FROM)) return false;
  const others = create.content["additional_creators"];
  return create.sender === user || (Array.isArray(others) && others.includes(user));
}
