/**
 * The request in a machine's config room that it stop everything and leave its fleet. Only an administrator's request
 * is valid (schema/event-writers). An unreadable request stops nothing.
 */
import type { RoomView } from "@bureau/matrix/room-state";
import {
  DECOMMISSION_GRACE_SECONDS_MAX,
  eventTypes,
  isCleared,
  MachineDecommissionSchema,
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

/** Undefined without a valid request of an administrator. `fault` receives why an event does not count. */
export function readDecommission(
  room: RoomId,
  view: RoomView,
  machine: EntityStateKey,
  fault: (sentence: string) => void = () => {},
): Decommission | undefined {
  const event = view.get(eventTypes.machineDecommission, machine);
  if (event === undefined || isCleared(event.content)) return undefined;
  const parsed = safeParse(MachineDecommissionSchema, event.content);
  if (!parsed.success) {
    fault("the request that this machine leave cannot be read");
    return undefined;
  }
  const seconds = Math.min(parsed.output.grace_seconds, DECOMMISSION_GRACE_SECONDS_MAX);
  return { room, request: event.eventId, graceMs: seconds * 1_000 };
}
