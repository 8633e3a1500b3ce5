/** Data of users outside rooms: account data, receipts, filters, pushers. SQL only. */
import type { JsonObject } from "../rooms/room-event.ts";
import type { HomeserverDatabase } from "./database.ts";

export type AccountDataRow = { room_id: string; type: string; content: string; stream: number };
export type ReceiptRow = {
  user_id: string;
  type: string;
  thread_id: string;
  event_id: string;
  ts: number;
  stream: number;
};

/** Bytes counted for a row beside its text, so that empty rows count too. */
const ROW_BYTES = 64;

export type UserDataStore = ReturnType<typeof createUserDataStore>;

export function createUserDataStore(db: HomeserverDatabase) {
  const setAccountData = db.prepare<unknown, [string, string, string, string, number]>(
    "INSERT OR REPLACE INTO account_data (user_id, room_id, type, content, stream) VALUES (?,?,?,?,?)",
  );
  const accountData = db.prepare<{ content: string }, [string, string, string]>(
    "SELECT content FROM account_data WHERE user_id = ? AND room_id = ? AND type = ?",
  );
  const accountDataBytes = db.prepare<{ total: number; before: number | null }, [string, string, string]>(
    `SELECT TOTAL(octet_length(content) + octet_length(type) + octet_length(room_id) + ${ROW_BYTES}) AS total,
       MAX(CASE WHEN room_id = ?2 AND type = ?3 THEN octet_length(content) END) AS before
     FROM account_data WHERE user_id = ?1`,
  );
  const accountDataSince = db.prepare<AccountDataRow, [string, number]>(
    "SELECT room_id, type, content, stream FROM account_data WHERE user_id = ? AND stream > ? ORDER BY stream",
  );
  const newestAccountData = db.prepare<{ user_id: string; stream: number }, []>(
    "SELECT user_id, MAX(stream) AS stream FROM account_data GROUP BY user_id",
  );
  const setReceipt = db.prepare<unknown, [string, string, string, string, string, number, number]>(
    `INSERT OR REPLACE INTO receipts (room_id, user_id, type, thread_id, event_id, ts, stream)
     VALUES (?,?,?,?,?,?,?)`,
  );
  const receiptsSince = db.prepare<ReceiptRow, [string, number]>(
    `SELECT user_id, type, thread_id, event_id, ts, stream FROM receipts WHERE room_id = ? AND stream > ?
     ORDER BY stream`,
  );
  const newestReceipts = db.prepare<{ room_id: string; stream: number }, []>(
    "SELECT room_id, MAX(stream) AS stream FROM receipts GROUP BY room_id",
  );
  const setFilter = db.prepare<unknown, [string, string, string]>(
    "INSERT OR IGNORE INTO filters (user_id, filter_id, content) VALUES (?,?,?)",
  );
  const filter = db.prepare<{ content: string }, [string, string]>(
    "SELECT content FROM filters WHERE user_id = ? AND filter_id = ?",
  );
  const setPusher = db.prepare<unknown, [string, string, string, string]>(
    "INSERT OR REPLACE INTO pushers (user_id, app_id, pushkey, content) VALUES (?,?,?,?)",
  );
  const deletePusher = db.prepare<unknown, [string, string, string]>(
    "DELETE FROM pushers WHERE user_id = ? AND app_id = ? AND pushkey = ?",
  );
  const deletePushers = db.prepare<unknown, [string]>("DELETE FROM pushers WHERE user_id = ?");
  const pushers = db.prepare<{ content: string }, [string]>("SELECT content FROM pushers WHERE user_id = ?");
  return {
    /** `roomId` is "" for account data of the user as a whole. */
    setAccountData: (userId: string, roomId: string, type: string, content: JsonObject, stream: number) => {
      setAccountData.run(userId, roomId, type, JSON.stringify(content), stream);
    },
    accountData: (userId: string, roomId: string, type: string): JsonObject | undefined =>
      parsed(accountData.get(userId, roomId, type)),
    /** Bytes of all account data of a user, and of the current content; -1 when there is none. */
    accountDataBytes(userId: string, roomId: string, type: string): { total: number; before: number } {
      const row = accountDataBytes.get(userId, roomId, type);
      return { total: row?.total ?? 0, before: row?.before ?? -1 };
    },
    accountDataSince: (userId: string, stream: number): AccountDataRow[] =>
      accountDataSince.all(userId, stream),
    newestAccountData: () => newestAccountData.all(),
    setReceipt: (
      at: { roomId: string; userId: string; type: string; threadId: string },
      eventId: string,
      ts: number,
      stream: number,
    ): void => {
      setReceipt.run(at.roomId, at.userId, at.type, at.threadId, eventId, ts, stream);
    },
    receiptsSince: (roomId: string, stream: number): ReceiptRow[] => receiptsSince.all(roomId, stream),
    newestReceipts: () => newestReceipts.all(),
    setFilter: (userId: string, filterId: string, content: JsonObject): void => {
      setFilter.run(userId, filterId, JSON.stringify(content));
    },
    filter: (userId: string, filterId: string): JsonObject | undefined =>
      parsed(filter.get(userId, filterId)),
    setPusher: (userId: string, appId: string, pushkey: string, content: JsonObject): void => {
      setPusher.run(userId, appId, pushkey, JSON.stringify(content));
    },
    deletePusher: (userId: string, appId: string, pushkey: string): void => {
      deletePusher.run(userId, appId, pushkey);
    },
    deletePushers: (userId: string): void => {
      deletePushers.run(userId);
    },
    pushers: (userId: string): JsonObject[] =>
      pushers.all(userId).map((row) => JSON.parse(row.content) as JsonObject),
  };
}

const parsed = (row: { content: string } | null): JsonObject | undefined =>
  row === null ? undefined : (JSON.parse(row.content) as JsonObject);
