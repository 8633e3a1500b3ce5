/** The current events of some types in one room, without everything else that a large room has. */
import { currentState } from "@bureau/matrix/current-state";
import type { StateEvent } from "@bureau/matrix/event";
import { viewEvents } from "@bureau/matrix/room-state";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import type { RoomId } from "@bureau/schema/refs";
import { narrowFilter } from "./narrow-filter.ts";

/** Those that count (schema/event-writers), in one request. @throws BureauError `forbidden` for a room that the session may not read */
export async function stateOfTypes(
  session: MatrixSession,
  room: RoomId,
  types: readonly string[],
): Promise<StateEvent[]> {
  // These decide which events count.
  const filter = narrowFilter([...types, eventTypes.powerLevels, "m.room.create"], { rooms: [room] });
  const found = (await session.sync({ timeoutMs: 0, filter })).joined.get(room);
  // A room that the session is not in may still be readable; else the homeserver says why not.
  if (found === undefined)
    return (await session.getRoomState(room)).filter(({ type }) => types.includes(type));
  const view = viewEvents([...currentState(found).values()], (sentence) => session.reportIgnored(sentence));
  return types.flatMap((type) => view.ofType(type));
}
