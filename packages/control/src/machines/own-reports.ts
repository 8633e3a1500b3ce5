/** What the machines of a fleet report in their own config rooms, of all rooms of the session in one request. */
import type { StateEvent } from "@bureau/matrix/event";
import type { MatrixSession } from "@bureau/matrix/session";
import type { SyncResponse } from "@bureau/matrix/sync-response";
import { countsByItself } from "@bureau/schema/event-writers";
import { eventTypes, isCleared } from "@bureau/schema/events";
import type { RoomId } from "@bureau/schema/refs";
import { narrowFilter } from "../rooms/narrow-filter.ts";

export type OwnReport = {
  /** Its last heartbeat. */
  readonly beat?: StateEvent | undefined;
  readonly version?: StateEvent | undefined;
};

/**
 * By state key. Only the machine itself may write these events, so the room does not matter; `shared`, the fleet's machine
 * room, is left out, because it has every machine's members and copies.
 */
export async function ownReports(
  session: Pick<MatrixSession, "sync">,
  shared: RoomId,
): Promise<ReadonlyMap<string, OwnReport>> {
  const filter = narrowFilter([eventTypes.machineStatus, eventTypes.machineVersion], { not_rooms: [shared] });
  return reportsIn(await session.sync({ timeoutMs: 0, filter }));
}

function reportsIn({ joined }: SyncResponse): Map<string, OwnReport> {
  const reports = new Map<string, OwnReport>();
  for (const { state, timeline } of joined.values())
    for (const event of [...state, ...timeline]) {
      const { stateKey, type } = event;
      if (stateKey === undefined || isCleared(event.content) || !countsByItself({ ...event, stateKey }))
        continue;
      const field = type === eventTypes.machineStatus ? "beat" : "version";
      const known = reports.get(stateKey);
      if (event.sentAt < (known?.[field]?.sentAt ?? 0)) continue;
      reports.set(stateKey, { ...known, [field]: { ...event, stateKey } });
    }
  return reports;
}
