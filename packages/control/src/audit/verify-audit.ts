/** Verifies the audit chain of a machine: reads its events from the beginning of its config room. */
import { parseTimelineEvents } from "@bureau/matrix/event";
import type { MatrixSession } from "@bureau/matrix/session";
import type { ChainHead } from "@bureau/schema/audit";
import { eventTypes } from "@bureau/schema/events";
import { type MachineLocalpart, rooms, serverOf, userIdOf } from "@bureau/schema/refs";
import { roomOf } from "../rooms/places.ts";
import { ChainWalk, type Verified } from "./verify-chain.ts";

const PAGE = 500;

/**
 * `heads` were seen before: each must still be in the chain. One request for each 500 events.
 * @throws BureauError `not-found` for an unknown machine, `forbidden` when its room may not be read
 */
export async function verifyAudit(
  session: MatrixSession,
  machine: MachineLocalpart,
  heads: readonly ChainHead[],
): Promise<Verified> {
  const room = await roomOf(session, rooms.config(machine));
  const senders = [userIdOf(machine, serverOf(session.userId))];
  const walk = new ChainWalk();
  for (let from: string | undefined; ; ) {
    const { chunk, end } = await session.messages(room, {
      dir: "f",
      limit: PAGE,
      types: [eventTypes.audit],
      senders,
      ...(from === undefined ? {} : { from }),
    });
    for (const event of parseTimelineEvents(chunk)) walk.next(event);
    if (end === undefined || end === from) return walk.end(heads);
    from = end;
  }
}
