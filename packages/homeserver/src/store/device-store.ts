/**
 * What devices leave for each other: keys and to-device messages. The server stores and hands out; it verifies no
 * signature, which is the clients' business. Messages are deleted when the device syncs past them.
 */
import type { Json, JsonObject } from "../rooms/room-event.ts";
import type { HomeserverDatabase } from "./database.ts";

export type DeviceStore = ReturnType<typeof createDeviceStore>;
export type KeyUpload = { readonly algorithm: string; readonly keyId: string; readonly content: Json };

/** Messages that wait for a device, and the bytes of their JSON; the oldest go when there are more. */
const MESSAGES_WAITING_MAX = 2_000;
const MESSAGE_BYTES_WAITING_MAX = 1_048_576;
/** Messages of one answer; what is left comes with the next. The number is Synapse's. */
const MESSAGES_PAGE_MAX = 100;

export function createDeviceStore(db: HomeserverDatabase) {
  const sql = { ...prepareMessages(db), ...prepareKeys(db) };
  const changed = new Map(sql.listChanges.all().map((row) => [row.user_id, row.stream]));
  let newestChange = Math.max(0, ...changed.values());
  /** Call inside a transaction. */
  const markListChanged = (userId: string): void => {
    const [before, newestBefore] = [changed.get(userId), newestChange];
    const stream = db.advance();
    sql.setListChange.run(userId, stream);
    changed.set(userId, stream);
    newestChange = stream;
    db.onRollback(() => {
      if (before === undefined) changed.delete(userId);
      else changed.set(userId, before);
      newestChange = newestBefore;
    });
  };
  /** Whether the user's device list changed by it. */
  const deleteDevice = (userId: string, deviceId: string): boolean =>
    db.transaction(() => {
      sql.setFloor.run(db.position);
      const listChanged = deleteRows(sql, userId, deviceId);
      if (listChanged) markListChanged(userId);
      return listChanged;
    });
  return {
    /** Queues a message for a device. Call inside a transaction. */
    addMessage(userId: string, deviceId: string, content: JsonObject): void {
      sql.insertMessage.run(db.advance(), userId, deviceId, JSON.stringify(content));
      let { count, bytes } = sql.waiting.get(userId, deviceId) ?? { count: 0, bytes: 0 };
      for (; count > MESSAGES_WAITING_MAX || bytes > MESSAGE_BYTES_WAITING_MAX; count -= 1) {
        bytes -= sql.dropOldest.get(userId, deviceId)?.bytes ?? bytes;
      }
    },
    /** The oldest messages up to `upTo` that wait, and how far they reach: to `upTo` when there are no more. */
    messages(userId: string, deviceId: string, upTo: number): { contents: JsonObject[]; reach: number } {
      const rows = sql.messages.all(userId, deviceId, upTo);
      const more = rows.length > MESSAGES_PAGE_MAX;
      const page = more ? rows.slice(0, MESSAGES_PAGE_MAX) : rows;
      return {
        contents: page.map((row) => JSON.parse(row.content) as JsonObject),
        reach: (more ? page.at(-1)?.stream : undefined) ?? upTo,
      };
    },
    /** Deletes what the device has seen. */
    acknowledgeMessages(userId: string, deviceId: string, stream: number): void {
      if (sql.anyMessage.get(userId, deviceId, stream) === null) return;
      db.transaction(() => {
        sql.deleteMessages.run(userId, deviceId, stream);
        sql.setFloor.run(db.position);
      });
    },
    /** False when the device used this transaction ID before. */
    beginTransaction: (...transaction: [userId: string, deviceId: string, txnId: string, type: string]) =>
      sql.insertTransaction.run(...transaction).changes > 0,
    /** Call inside a transaction. */
    setDeviceKeys(userId: string, deviceId: string, content: JsonObject): void {
      sql.setKeys.run(userId, deviceId, JSON.stringify(content));
      markListChanged(userId);
    },
    deviceKeys: (userId: string): Map<string, JsonObject> =>
      new Map(sql.keys.all(userId).map((row) => [row.device_id, JSON.parse(row.content) as JsonObject])),
    deleteDevice,
    addOneTimeKey: (userId: string, deviceId: string, key: KeyUpload): void => {
      sql.insertOneTimeKey.run(userId, deviceId, key.algorithm, key.keyId, JSON.stringify(key.content), 0);
    },
    setFallbackKey: (userId: string, deviceId: string, key: KeyUpload): void => {
      sql.dropFallback.run(userId, deviceId, key.algorithm);
      sql.insertOneTimeKey.run(userId, deviceId, key.algorithm, key.keyId, JSON.stringify(key.content), 1);
    },
    /** Takes a one-time key (or marks the fallback key used). Call inside a transaction. */
    claimKey(
      userId: string,
      deviceId: string,
      algorithm: string,
    ): { keyId: string; content: Json } | undefined {
      const row = sql.oneTimeKey.get(userId, deviceId, algorithm);
      if (row === null) return undefined;
      (row.fallback > 0 ? sql.useFallback : sql.takeOneTimeKey).run(userId, deviceId, algorithm, row.key_id);
      return { keyId: row.key_id, content: JSON.parse(row.content) as Json };
    },
    oneTimeKeyCounts: (userId: string, deviceId: string): JsonObject => ({
      signed_curve25519: 0,
      ...Object.fromEntries(sql.counts.all(userId, deviceId).map((row) => [row.algorithm, row.count])),
    }),
    unusedFallbackTypes: (userId: string, deviceId: string): string[] =>
      sql.unusedFallback.all(userId, deviceId).map((row) => row.algorithm),
    /** Call inside a transaction. */
    setCrossSigningKey(userId: string, usage: string, content: JsonObject): void {
      sql.setCrossSigning.run(userId, usage, JSON.stringify(content));
      markListChanged(userId);
    },
    crossSigningKeys: (userId: string): Map<string, JsonObject> =>
      new Map(sql.crossSigning.all(userId).map((row) => [row.usage, JSON.parse(row.content) as JsonObject])),
    /** Position of the user's last change of devices or keys; 0 when there was none. */
    listChangedAt: (userId: string): number => changed.get(userId) ?? 0,
    /** Users whose devices or keys changed after `stream`. */
    listChangesSince: (stream: number): string[] =>
      stream >= newestChange ? [] : [...changed].filter(([, at]) => at > stream).map(([userId]) => userId),
  };
}

/** Whether the device had keys. */
function deleteRows(sql: Statements, userId: string, deviceId: string): boolean {
  sql.deleteMessages.run(userId, deviceId, Number.MAX_SAFE_INTEGER);
  sql.deleteTransactions.run(userId, deviceId);
  sql.deleteOneTimeKeys.run(userId, deviceId);
  return sql.deleteKeys.run(userId, deviceId).changes > 0;
}

type Statements = ReturnType<typeof prepareMessages> & ReturnType<typeof prepareKeys>;

function prepareMessages(db: HomeserverDatabase) {
  const insertMessage = db.prepare<unknown, [number, string, string, string]>(
    "INSERT INTO to_device (stream, user_id, device_id, content) VALUES (?,?,?,?)",
  );
  const waiting = db.prepare<{ count: number; bytes: number }, [string, string]>(
    `SELECT COUNT(*) AS count, TOTAL(octet_length(content)) AS bytes FROM to_device
     WHERE user_id = ? AND device_id = ?`,
  );
  const dropOldest = db.prepare<{ bytes: number }, [string, string]>(
    `DELETE FROM to_device WHERE stream = (SELECT MIN(stream) FROM to_device WHERE user_id = ? AND device_id = ?)
     RETURNING octet_length(content) AS bytes`,
  );
  const messages = db.prepare<{ stream: number; content: string }, [string, string, number]>(
    `SELECT stream, content FROM to_device WHERE user_id = ? AND device_id = ? AND stream <= ?
     ORDER BY stream LIMIT ${MESSAGES_PAGE_MAX + 1}`,
  );
  const anyMessage = db.prepare<{ one: number }, [string, string, number]>(
    "SELECT 1 AS one FROM to_device WHERE user_id = ? AND device_id = ? AND stream <= ? LIMIT 1",
  );
  const deleteMessages = db.prepare<unknown, [string, string, number]>(
    "DELETE FROM to_device WHERE user_id = ? AND device_id = ? AND stream <= ?",
  );
  const setFloor = db.prepare<unknown, [number]>(
    "INSERT OR REPLACE INTO stream_floor (id, value) VALUES (1, ?)",
  );
  const insertTransaction = db.prepare<unknown, [string, string, string, string]>(
    "INSERT OR IGNORE INTO to_device_transactions (user_id, device_id, txn_id, type) VALUES (?,?,?,?)",
  );
  return {
    insertMessage,
    waiting,
    dropOldest,
    messages,
    anyMessage,
    deleteMessages,
    setFloor,
    insertTransaction,
  };
}

function prepareKeys(db: HomeserverDatabase) {
  const deleteTransactions = db.prepare<unknown, [string, string]>(
    "DELETE FROM to_device_transactions WHERE user_id = ? AND device_id = ?",
  );
  const setKeys = db.prepare<unknown, [string, string, string]>(
    "INSERT OR REPLACE INTO device_keys (user_id, device_id, content) VALUES (?,?,?)",
  );
  const keys = db.prepare<{ device_id: string; content: string }, [string]>(
    "SELECT device_id, content FROM device_keys WHERE user_id = ?",
  );
  const deleteKeys = db.prepare<unknown, [string, string]>(
    "DELETE FROM device_keys WHERE user_id = ? AND device_id = ?",
  );
  const deleteOneTimeKeys = db.prepare<unknown, [string, string]>(
    "DELETE FROM one_time_keys WHERE user_id = ? AND device_id = ?",
  );
  const insertOneTimeKey = db.prepare<unknown, [string, string, string, string, string, number]>(
    `INSERT OR REPLACE INTO one_time_keys (user_id, device_id, algorithm, key_id, content, fallback)
     VALUES (?,?,?,?,?,?)`,
  );
  const dropFallback = db.prepare<unknown, [string, string, string]>(
    "DELETE FROM one_time_keys WHERE user_id = ? AND device_id = ? AND algorithm = ? AND fallback > 0",
  );
  const oneTimeKey = db.prepare<
    { key_id: string; content: string; fallback: number },
    [string, string, string]
  >(
    `SELECT key_id, content, fallback FROM one_time_keys WHERE user_id = ? AND device_id = ? AND algorithm = ?
     ORDER BY fallback, key_id LIMIT 1`,
  );
  const takeOneTimeKey = db.prepare<unknown, [string, string, string, string]>(
    "DELETE FROM one_time_keys WHERE user_id = ? AND device_id = ? AND algorithm = ? AND key_id = ?",
  );
  /** `fallback` 1 is unused, 2 is used. */
  const useFallback = db.prepare<unknown, [string, string, string, string]>(
    "UPDATE one_time_keys SET fallback = 2 WHERE user_id = ? AND device_id = ? AND algorithm = ? AND key_id = ?",
  );
  const counts = db.prepare<{ algorithm: string; count: number }, [string, string]>(
    `SELECT algorithm, COUNT(*) AS count FROM one_time_keys WHERE user_id = ? AND device_id = ? AND fallback = 0
     GROUP BY algorithm`,
  );
  const unusedFallback = db.prepare<{ algorithm: string }, [string, string]>(
    "SELECT algorithm FROM one_time_keys WHERE user_id = ? AND device_id = ? AND fallback = 1",
  );
  const setCrossSigning = db.prepare<unknown, [string, string, string]>(
    "INSERT OR REPLACE INTO cross_signing_keys (user_id, usage, content) VALUES (?,?,?)",
  );
  const crossSigning = db.prepare<{ usage: string; content: string }, [string]>(
    "SELECT usage, content FROM cross_signing_keys WHERE user_id = ?",
  );
  const setListChange = db.prepare<unknown, [string, number]>(
    "INSERT OR REPLACE INTO device_list_changes (user_id, stream) VALUES (?,?)",
  );
  const listChanges = db.prepare<{ user_id: string; stream: number }, []>(
    "SELECT user_id, stream FROM device_list_changes",
  );
  return {
    deleteTransactions,
    setKeys,
    keys,
    deleteKeys,
    deleteOneTimeKeys,
    insertOneTimeKey,
    dropFallback,
    oneTimeKey,
    takeOneTimeKey,
    useFallback,
    counts,
    unusedFallback,
    setCrossSigning,
    crossSigning,
    setListChange,
    listChanges,
  };
}
