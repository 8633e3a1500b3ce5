/**
 * Deletes heartbeats that newer ones replaced, an hour later. A machine writes one every 30 s as a state event; no client
 * needs the old ones, and without this they are nearly all of the database: 3.6 MB for each machine and day.
 *
 * Always holds: the current state stays, and so does every event of another type. Positions stay valid, because they are
 * numbers and not rows: a page or a sync that starts at a deleted event continues at the next one. Clients see an event
 * without `prev_content` when the event before it was deleted, which the Client-Server API permits.
 */
import type { Clock } from "@bureau/kit/clock";
import { eventTypes } from "@bureau/schema/events";
import type { HomeserverDatabase } from "../store/database.ts";
import type { EventStore, StatePlace } from "../store/event-store.ts";

/** State whose history has no reader. */
const prunedTypes = [eventTypes.machineStatus] as const;
/** Milliseconds that a replaced heartbeat is kept. */
const KEPT_MS = 3_600_000;
/** Rows of one transaction: a few milliseconds in which no request is served. */
const BATCH_ROWS = 200;
/** Machines of one transaction. */
const BATCH_PLACES = 200;
/** Milliseconds between two transactions. */
const PAUSE_MS = 50;

type Deps = {
  readonly db: HomeserverDatabase;
  readonly events: EventStore;
  readonly clock: Clock;
};

/** Deletes all that are due, in small transactions, and returns their number. */
export async function pruneHeartbeats({ db, events, clock }: Deps, signal: AbortSignal): Promise<number> {
  const before = clock.now() - KEPT_MS;
  const current = prunedTypes.flatMap((type) => events.currentOfType(type));
  let deleted = 0;
  while (current.length > 0 && !signal.aborted) {
    deleted += db.transaction(() => deleteBatch(events, current, before));
    await clock.sleep(PAUSE_MS, signal);
  }
  while (!signal.aborted && db.releaseSpace()) await clock.sleep(PAUSE_MS, signal);
  return deleted;
}

/** Deletes what the last of `current` replaced, and takes those off the list of which nothing is left to delete. */
function deleteBatch(events: EventStore, current: StatePlace[], before: number): number {
  let deleted = 0;
  for (let places = 0; places < BATCH_PLACES && deleted < BATCH_ROWS; places++) {
    const last = current.at(-1);
    if (last === undefined) break;
    deleted += events.deleteReplaced(last, before, BATCH_ROWS - deleted);
    if (deleted < BATCH_ROWS) current.pop();
  }
  return deleted;
}
