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
import type { EventStore } from "../store/event-store.ts";

/** State whose history has no reader. */
const prunedTypes = [eventTypes.machineStatus] as const;
/** Milliseconds that a replaced heartbeat is kept. */
const KEPT_MS = 3_600_000;
/** Rows of one transaction: a few milliseconds in which no request is served. */
const BATCH_ROWS = 200;
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
  let deleted = 0;
  let batch = 0;
  const endBatch = async (): Promise<void> => {
    deleted += batch;
    batch = 0;
    await clock.sleep(PAUSE_MS, signal);
  };
  for (const type of prunedTypes) {
    const current = events.currentOfType(type);
    while (current.length > 0 && !signal.aborted) {
      db.transaction(() => {
        for (let one = current.at(-1); one !== undefined && batch < BATCH_ROWS; one = current.at(-1)) {
          batch += events.deleteReplaced(one, before, BATCH_ROWS - batch);
          if (batch < BATCH_ROWS) current.pop();
        }
      });
      if (batch > 0) await endBatch();
    }
  }
  while (!signal.aborted && db.releaseSpace()) await clock.sleep(PAUSE_MS, signal);
  return deleted;
}
