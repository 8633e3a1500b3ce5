/** Events, current state and their history: the SQL for them and nothing else. No authorization, no caching. */
import type { JsonObject, RoomEvent } from "../rooms/room-event.ts";
import type { HomeserverDatabase } from "./database.ts";

/** The cheap columns of an event: what a filter may look at before the content is parsed. */
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

export type Relation = { readonly eventId: string; readonly relType: string };

const columns = `e.stream, e.event_id, e.room_id, e.type, e.state_key, e.sender, e.content, e.origin_server_ts,
  e.replaces, e.redacts, e.redacted_by, e.rel_type, e.txn_device, e.txn_id`;

/** Rows read at a time by the scans. */
const SCAN_BATCH = 128;

export type EventStore = ReturnType<typeof createEventStore>;

export function createEventStore(db: HomeserverDatabase) {
  const sql = prepareStatements(db);
  const optional = (row: EventRow | null): RoomEvent | undefined => (row === null ? undefined : toEvent(row));

  /** Rows with `after < stream <= upTo`, newest or oldest first, read in batches as they are asked for. */
  function* scan(
    roomId: string,
    after: number,
    upTo: number,
    direction: "b" | "f",
  ): Generator<EventRow, void, undefined> {
    let [low, high] = [after, upTo];
    while (low < high) {
      const rows = (direction === "b" ? sql.backwards : sql.forwards).all(roomId, low, high);
      yield* rows;
      const last = rows.at(-1);
      if (last === undefined || rows.length < SCAN_BATCH) return;
      if (direction === "b") high = last.stream - 1;
      else low = last.stream;
    }
  }

  return {
    scan,
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
    /** State events with `after < stream <= upTo`, oldest first. */
    stateChanges: (roomId: string, after: number, upTo: number): EventRow[] =>
      sql.stateChanges.all(roomId, after, upTo),
    /** Events that relate to `eventId`, oldest first. */
    related: (eventId: string): EventRow[] => sql.related.all(eventId),
    /** IDs of the room's thread roots, the thread with the newest reply first. */
    threadRoots: (roomId: string) => sql.threadRoots.all(roomId),
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
  const stateChanges = db.prepare<EventRow, [string, number, number]>(
    `SELECT ${columns} FROM events e WHERE e.room_id = ? AND e.stream > ? AND e.stream <= ?
       AND e.state_key IS NOT NULL ORDER BY e.stream`,
  );
  const backwards = db.prepare<EventRow, [string, number, number]>(
    `SELECT ${columns} FROM events e WHERE e.room_id = ? AND e.stream > ? AND e.stream <= ?
     ORDER BY e.stream DESC LIMIT ${SCAN_BATCH}`,
  );
  const forwards = db.prepare<EventRow, [string, number, number]>(
    `SELECT ${columns} FROM events e WHERE e.room_id = ? AND e.stream > ? AND e.stream <= ?
     ORDER BY e.stream LIMIT ${SCAN_BATCH}`,
  );
  const related = db.prepare<EventRow, [string]>(
    `SELECT ${columns} FROM events e WHERE e.relates_to = ? ORDER BY e.stream`,
  );
  const threadRoots = db.prepare<{ relates_to: string; latest: number }, [string]>(
    `SELECT relates_to, MAX(stream) AS latest FROM events WHERE room_id = ? AND rel_type = 'm.thread'
     GROUP BY relates_to ORDER BY latest DESC`,
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
    currentState,
    stateAt,
    stateEventAt,
    stateHistory,
    stateChanges,
    backwards,
    forwards,
    related,
    threadRoots,
    redact,
  };
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
