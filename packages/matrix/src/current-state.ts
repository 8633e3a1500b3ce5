/** The state that an answer of /sync leaves in one room: of each type and key the last event, from state and timeline. */
import type { StateEvent } from "./event.ts";
import type { JoinedRoomUpdate } from "./sync-response.ts";

/** By {@link stateName}. */
export function currentState({
  state,
  timeline,
}: Pick<JoinedRoomUpdate, "state" | "timeline">): Map<string, StateEvent> {
  const current = new Map<string, StateEvent>();
  for (const event of [...state, ...timeline])
    if (event.stateKey !== undefined)
      current.set(stateName(event.type, event.stateKey), { ...event, stateKey: event.stateKey });
  return current;
}

/** The types that we read have no space, so no two events share a name. */
export const stateName = (type: string, stateKey: string): string => `${type} ${stateKey}`;
