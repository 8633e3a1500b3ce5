/**
 * Levels of machines in rooms that they share. Earlier versions, and the Go implementation, name each machine there with
 * 50; the event is full at some 1,300 of them. The level lets a daemon invite services, which `agent create` does, too; a
 * machine's own facts need none.
 */
import { systemClock } from "@bureau/kit/clock";
import { editPowerLevels } from "@bureau/matrix/power-levels";
import type { MatrixSession } from "@bureau/matrix/session";
import { MODERATOR_LEVEL } from "@bureau/schema/power";
import { localpartOf, parseMachine, parseUserId, type RoomId } from "@bureau/schema/refs";
import type { RoomKind } from "./room-catalogue.ts";

/** Half an event (Matrix specification, size limits): below it the levels stay, for machines of other implementations. */
const LEVELS_BYTES_MAX = 32_768;

/** Rooms where machines were named. */
export const namedMachines = (kind: RoomKind): boolean =>
  kind === "system" || kind === "pipeline" || kind === "fleet-services";

/** Removes the levels of machines once they fill half an event; levels of other users stay. */
export const dropMachineLevels = (
  session: Pick<MatrixSession, "getState" | "putState">,
  room: RoomId,
): Promise<void> =>
  editPowerLevels(
    session,
    room,
    (levels) => {
      if (JSON.stringify(levels).length <= LEVELS_BYTES_MAX) return undefined;
      const all = Object.entries(levels.users ?? {});
      const kept = all.filter(([user, level]) => !(level === MODERATOR_LEVEL && isMachine(user)));
      return kept.length < all.length ? { users: Object.fromEntries(kept) } : undefined;
    },
    { clock: systemClock },
  );

function isMachine(user: string): boolean {
  try {
    parseMachine(localpartOf(parseUserId(user)));
    return true;
  } catch {
    return false;
  }
}
