/** Events, current state and their history: the SQL for them and nothing else. No authorization, no caching. */
import type { JsonObject, RoomEvent } from "../rooms/room-event.ts";
import type { HomeserverDatabase } from "./database.ts";

/** The cheap columns of an event, which a filter reads before the content is parsed. */
export type EventRow = {
  stream: number;
  event_id: string;
  room_id: string;
  type: string;
  state_key: string | null;
  sender: string;
  content: string;
  origin_server_ts: number;
  replaces: number | null;
  redacts: string | null;
  redacted_by: string | null;
  rel_type: string | null;
  txn_device: string | null;
  txn_id: string | null;
};

/** Where a state event is: its name and position. */
export type StatePlace = { room_id: string; type: string; state_key: string; stream: number };

export type Relation = { readonly eventId: string; readonly relType: string };

/** Selects related events: of the same room, in a range, optionally of one type or sender. */
export type RelatedQuery = {
  readonly eventId: string;
  readonly roomId: string;
  readonly after?: number;
  readonly upTo: number;
  readonly direction: "b" | "f";
  readonly relType?: string | undefined;
  readonly sender?: string;
};

const columns = `e.stream, e.event_id, e.room_id, e.type, e.state_key, e.sender, e.content, e.origin_server_ts,
  e.replaces, e.redacts, e.redacted_by, e.rel_type, e.txn_device, e.txn_id`;

/** Rows read at a time by the scans. */
const SCAN_BATCH = 128;

export type EventStore = ReturnType<typeof createEventStore>;

export function createEventStore(db: HomeserverDatabase) {
  const sql = prepareStatements(db);
  const optional = (row: EventRow | null): RoomEvent | undefined => (row === null ? undefined : toEvent(row));

  /** Rows with `after < stream <= upTo`, newest or oldest first, read in batches on demand. */
  const scan = (roomId: string, after: number, upTo: number, direction: "b" | "f"): Iterable<EventRow> =>
    inBatches(after, upTo, direction, (low, high) =>
      (direction === "b" ? sql.backwards : sql.forwards).all(roomId, low, high),
    );

  /** As {@link scan}, newest first and only of these types. */
  const scanTypes = (
    roomId: string,
    after: number,
    upTo: number,
    types: readonly string[],
  ): Iterable<EventRow> =>
    inBatches(after, upTo, "b", (low, high) =>
      sql.backwardsOfTypes.all(roomId, low, high, JSON.stringify(types)),
    );

  /** As {@link scan} over the whole room, from `ts` on (or backwards from it). */
  const scanFromTime = (roomId: string, ts: number, upTo: number, direction: "b" | "f"): Iterable<EventRow> =>
    inBatches(0, upTo, direction, (low, high) =>
      (direction === "b" ? sql.backwardsInTime : sql.forwardsInTime).all(roomId, low, high, ts),
    );

  /** Related events of the same room, newest or oldest first, read in batches on demand. */
  const related = (query: RelatedQuery): Generator<EventRow, void, undefined> => {
    const { eventId, roomId, direction, relType = null, sender = null } = query;
    const statement = direction === "b" ? sql.relatedBackwards : sql.relatedForwards;
    return inBatches(query.after ?? 0, query.upTo, direction, (low, high) =>
      statement.all(eventId, roomId, low, high, relType, sender),
    );
  };

  return {
    scan,
    scanTypes,
    scanFromTime,
    related,
    toEvent,
    insert(event: RoomEvent, contentJson: string, relation: Relation | undefined): void {
      sql.insert.run(
        event.stream,
        event.eventId,
        event.roomId,
        event.type,
        event.stateKey,
        event.sender,
        contentJson,
        event.originServerTs,
        event.replaces,
        event.redacts,
        relation?.eventId ?? null,
        relation?.relType ?? null,
        event.txnDevice,
        event.txnId,
      );
      if (event.stateKey !== null) sql.setState.run(event.roomId, event.type, event.stateKey, event.stream);
    },
    /** Position of the event with `newer` events after it in a range; undefined when there are not so many. */
    streamAt: (roomId: string, after: number, upTo: number, newer: number): number | undefined =>
      upTo - after <= newer ? undefined : sql.streamAt.get(roomId, after, upTo, newer)?.stream,
    byId: (eventId: string) => optional(sql.byId.get(eventId)),
    byStream: (stream: number) => optional(sql.byStream.get(stream)),
    /** The event that `sender`'s device already made with this transaction ID. */
    byTransaction: (sender: string, device: string, txnId: string, roomId: string, type: string) =>
      sql.byTransaction.get(sender, device, txnId, roomId, type)?.event_id,
    currentState: (roomId: string): RoomEvent[] => sql.currentState.all(roomId).map(toEvent),
    /** The room's whole state just after stream position `stream`. */
    stateAt: (roomId: string, stream: number): RoomEvent[] => sql.stateAt.all(roomId, stream).map(toEvent),
    stateEventAt: (roomId: string, type: string, stateKey: string, stream: number) =>
      optional(sql.stateEventAt.get(roomId, type, stateKey, stream)),
    /** Every event that ever set this state, oldest first. */
    stateHistory: (roomId: string, type: string, stateKey: string): RoomEvent[] =>
      sql.stateHistory.all(roomId, type, stateKey).map(toEvent),
    hasRelated: (eventId: string): boolean => sql.anyRelated.get(eventId) !== null,
    countRelated: (eventId: string, roomId: string, relType: string, upTo: number): number =>
      sql.countRelated.get(eventId, roomId, relType, upTo)?.count ?? 0,
    /** IDs of the thread roots of a room's events up to `upTo`, the thread with the newest reply first. */
    threadRoots: (roomId: string, upTo: number) => sql.threadRoots.all(roomId, upTo),
    /** Which events are the current state of this type, in all rooms. */
    currentOfType: (type: string): StatePlace[] => sql.currentOfType.all(type),
    /** Deletes at most `limit` events that `current` replaced, sent before the time `ts`. Returns their number. */
    deleteReplaced: (current: StatePlace, ts: number, limit: number): number =>
      sql.deleteReplaced.run(current.room_id, current.type, current.state_key, current.stream, ts, limit)
        .changes,
    redact: (event: RoomEvent, content: JsonObject, redactedBy: string): void => {
      sql.redact.run(JSON.stringify(content), redactedBy, event.stream);
    },
  };
}

function prepareStatements(db: HomeserverDatabase) {
  const insert = db.prepare<
    unknown,
    [
      number,
      string,
      string,
      string,
      string | null,
      string,
      string,
      number,
      number | null,
      string | null,
      string | null,
      string | null,
      string | null,
      string | null,
    ]
  >(
    `INSERT INTO events (stream, event_id, room_id, type, state_key, sender, content, origin_server_ts, replaces,
       redacts, relates_to, rel_type, txn_device, txn_id) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
  );
  const setState = db.prepare<unknown, [string, string, string, number]>(
    "INSERT OR REPLACE INTO current_state (room_id, type, state_key, stream) VALUES (?,?,?,?)",
  );
  const byId = db.prepare<EventRow, [string]>(`SELECT ${columns} FROM events e WHERE e.event_id = ?`);
  const byStream = db.prepare<EventRow, [number]>(`SELECT ${columns} FROM events e WHERE e.stream = ?`);
  const byTransaction = db.prepare<{ event_id: string }, [string, string, string, string, string]>(
    "SELECT event_id FROM events WHERE sender = ? AND txn_device = ? AND txn_id = ? AND room_id = ? AND type = ?",
  );
  const backwards = db.prepare<EventRow, [string, number, number]>(
    `SELECT ${columns} FROM events e WHERE e.room_id = ? AND e.stream > ? AND e.stream <= ?
     ORDER BY e.stream DESC LIMIT ${SCAN_BATCH}`,
  );
  const backwardsOfTypes = db.prepare<EventRow, [string, number, number, string]>(
    `SELECT ${columns} FROM events e WHERE e.room_id = ? AND e.stream > ? AND e.stream <= ?
       AND e.type IN (SELECT value FROM json_each(?)) ORDER BY e.stream DESC LIMIT ${SCAN_BATCH}`,
  );
  const streamAt = db.prepare<{ stream: number }, [string, number, number, number]>(
    `SELECT stream FROM events WHERE room_id = ? AND stream > ? AND stream <= ?
     ORDER BY stream DESC LIMIT 1 OFFSET ?`,
  );
  const forwards = db.prepare<EventRow, [string, number, number]>(
    `SELECT ${columns} FROM events e WHERE e.room_id = ? AND e.stream > ? AND e.stream <= ?
     ORDER BY e.stream LIMIT ${SCAN_BATCH}`,
  );
  const backwardsInTime = db.prepare<EventRow, [string, number, number, number]>(
    `SELECT ${columns} FROM events e WHERE e.room_id = ? AND e.stream > ? AND e.stream <= ?
       AND e.origin_server_ts <= ? ORDER BY e.stream DESC LIMIT ${SCAN_BATCH}`,
  );
  const forwardsInTime = db.prepare<EventRow, [string, number, number, number]>(
    `SELECT ${columns} FROM events e WHERE e.room_id = ? AND e.stream > ? AND e.stream <= ?
       AND e.origin_server_ts >= ? ORDER BY e.stream LIMIT ${SCAN_BATCH}`,
  );
  const redact = db.prepare<unknown, [string, string, number]>(
    "UPDATE events SET content = ?, redacted_by = ?, relates_to = NULL, rel_type = NULL WHERE stream = ?",
  );
  return {
    insert,
    setState,
    byId,
    byStream,
    byTransaction,
    backwards,
    backwardsOfTypes,
    streamAt,
    forwards,
    backwardsInTime,
    forwardsInTime,
    redact,
    ...prepareState(db),
    ...prepareRelations(db),
  };
}

/** State now, at a position, and its changes. */
function prepareState(db: HomeserverDatabase) {
  const currentState = db.prepare<EventRow, [string]>(
    `SELECT ${columns} FROM current_state s JOIN events e ON e.stream = s.stream WHERE s.room_id = ?
     ORDER BY s.stream`,
  );
  const stateAt = db.prepare<EventRow, [string, number]>(
    `SELECT ${columns} FROM events e JOIN (
       SELECT MAX(stream) AS stream FROM events
       WHERE room_id = ? AND state_key IS NOT NULL AND stream <= ? GROUP BY type, state_key
     ) latest ON latest.stream = e.stream ORDER BY e.stream`,
  );
  const stateEventAt = db.prepare<EventRow, [string, string, string, number]>(
    `SELECT ${columns} FROM events e WHERE e.room_id = ? AND e.type = ? AND e.state_key = ? AND e.stream <= ?
       AND e.state_key IS NOT NULL ORDER BY e.stream DESC LIMIT 1`,
  );
  const stateHistory = db.prepare<EventRow, [string, string, string]>(
    `SELECT ${columns} FROM events e WHERE e.room_id = ? AND e.type = ? AND e.state_key = ?
       AND e.state_key IS NOT NULL ORDER BY e.stream`,
  );
  const currentOfType = db.prepare<StatePlace, [string]>(
    "SELECT room_id, type, state_key, stream FROM current_state WHERE type = ?",
  );
  const deleteReplaced = db.prepare<unknown, [string, string, string, number, number, number]>(
    `DELETE FROM events WHERE stream IN (
       SELECT stream FROM events WHERE room_id = ? AND type = ? AND state_key = ? AND state_key IS NOT NULL
         AND stream < ? AND origin_server_ts < ? ORDER BY stream LIMIT ?)`,
  );
  return { currentState, stateAt, stateEventAt, stateHistory, currentOfType, deleteReplaced };
}

/** `+room_id` keeps SQLite on the index of relations: a room has more events than an event has relations. */
function prepareRelations(db: HomeserverDatabase) {
  const ofEvent = `SELECT ${columns} FROM events e WHERE e.relates_to = ?1 AND +e.room_id = ?2 AND e.stream > ?3
    AND e.stream <= ?4 AND (?5 IS NULL OR e.rel_type = ?5) AND (?6 IS NULL OR e.sender = ?6)`;
  type Params = [string, string, number, number, string | null, string | null];
  const relatedBackwards = db.prepare<EventRow, Params>(
    `${ofEvent} ORDER BY e.stream DESC LIMIT ${SCAN_BATCH}`,
  );
  const relatedForwards = db.prepare<EventRow, Params>(`${ofEvent} ORDER BY e.stream LIMIT ${SCAN_BATCH}`);
  const anyRelated = db.prepare<{ one: number }, [string]>(
    "SELECT 1 AS one FROM events WHERE relates_to = ? LIMIT 1",
  );
  const countRelated = db.prepare<{ count: number }, [string, string, string, number]>(
    `SELECT COUNT(*) AS count FROM events WHERE relates_to = ? AND +room_id = ? AND rel_type = ? AND stream <= ?`,
  );
  const threadRoots = db.prepare<{ relates_to: string; latest: number }, [string, number]>(
    `SELECT relates_to, MAX(stream) AS latest FROM events
     WHERE room_id = ? AND rel_type = 'm.thread' AND stream <= ? GROUP BY relates_to ORDER BY latest DESC`,
  );
  return { relatedBackwards, relatedForwards, anyRelated, countRelated, threadRoots };
}

/** Rows with `after < stream <= upTo`, of which `read` gives one batch at a time. */
function* inBatches(
  after: number,
  upTo: number,
  direction: "b" | "f",
  read: (low: number, high: number) => EventRow[],
): Generator<EventRow, void, undefined> {
  let [low, high] = [after, upTo];
  while (low < high) {
    const rows = read(low, high);
    yield* rows;
    const last = rows.at(-1);
    if (last === undefined || rows.length < SCAN_BATCH) return;
    if (direction === "b") high = last.stream - 1;
    else low = last.stream;
  }
}

function toEvent(row: EventRow): RoomEvent {
  return {
    stream: row.stream,
    eventId: row.event_id,
    roomId: row.room_id,
    type: row.type,
    stateKey: row.state_key,
    sender: row.sender,
    content: JSON.parse(row.content) as JsonObject,
    originServerTs: row.origin_server_ts,
    replaces: row.replaces,
    redacts: row.redacts,
    redactedBy: row.redacted_by,
    txnDevice: row.txn_device,
    txnId: row.txn_id,
  };
}
