/** Users, devices and access tokens: SQL only. Tokens are stored as SHA-256, so a copy of the file gives no access. */
import type { HomeserverDatabase } from "./database.ts";

export type UserRow = {
  user_id: string;
  password_hash: string | null;
  admin: number;
  deactivated: number;
  created_ts: number;
  displayname: string | null;
  avatar_url: string | null;
};
export type DeviceRow = {
  device_id: string;
  display_name: string | null;
  last_seen_ts: number | null;
  last_seen_ip: string | null;
};
type TokenRow = { user_id: string; device_id: string };

export type AccountStore = ReturnType<typeof createAccountStore>;

export const createAccountStore = (db: HomeserverDatabase) => ({ ...createUsers(db), ...createDevices(db) });

function createUsers(db: HomeserverDatabase) {
  const insertUser = db.prepare<unknown, [string, string, number, number, string]>(
    "INSERT INTO users (user_id, password_hash, admin, created_ts, displayname) VALUES (?,?,?,?,?)",
  );
  const user = db.prepare<UserRow, [string]>("SELECT * FROM users WHERE user_id = ?");
  const anyUser = db.prepare<{ one: number }, []>("SELECT 1 AS one FROM users LIMIT 1");
  const setPassword = db.prepare<unknown, [string | null, string]>(
    "UPDATE users SET password_hash = ? WHERE user_id = ?",
  );
  const setAdmin = db.prepare<unknown, [number, string]>("UPDATE users SET admin = ? WHERE user_id = ?");
  const deactivate = db.prepare<unknown, [string]>(
    "UPDATE users SET deactivated = 1, password_hash = NULL, displayname = NULL, avatar_url = NULL WHERE user_id = ?",
  );
  const reactivate = db.prepare<unknown, [string]>("UPDATE users SET deactivated = 0 WHERE user_id = ?");
  const setProfile = db.prepare<unknown, [string | null, string | null, string]>(
    "UPDATE users SET displayname = ?, avatar_url = ? WHERE user_id = ?",
  );
  const listUsers = db.prepare<UserRow, [number, number, number]>(
    "SELECT * FROM users WHERE deactivated <= ? ORDER BY user_id LIMIT ? OFFSET ?",
  );
  const searchUsers = db.prepare<UserRow, [string, string]>(
    `SELECT * FROM users WHERE deactivated = 0 AND (user_id LIKE ? ESCAPE '\\' OR displayname LIKE ? ESCAPE '\\')
     ORDER BY user_id LIMIT 1000`,
  );
  return {
    insertUser: (userId: string, passwordHash: string, admin: boolean, now: number, name: string): void => {
      insertUser.run(userId, passwordHash, admin ? 1 : 0, now, name);
    },
    user: (userId: string): UserRow | undefined => user.get(userId) ?? undefined,
    /** Sorted by name; closed accounts only `withClosed`. */
    users: (page: { withClosed: boolean; limit: number; from: number }): UserRow[] =>
      listUsers.all(page.withClosed ? 1 : 0, page.limit, page.from),
    isEmpty: (): boolean => anyUser.get() === null,
    setPassword: (userId: string, hash: string | null): void => {
      setPassword.run(hash, userId);
    },
    setAdmin: (userId: string, admin: boolean): void => {
      setAdmin.run(admin ? 1 : 0, userId);
    },
    deactivate: (userId: string): void => {
      deactivate.run(userId);
    },
    reactivate: (userId: string): void => {
      reactivate.run(userId);
    },
    setProfile: (userId: string, displayname: string | null, avatarUrl: string | null): void => {
      setProfile.run(displayname, avatarUrl, userId);
    },
    /** Active users whose ID or name contains `term`. */
    searchUsers: (term: string): UserRow[] => {
      const like = `%${term.replace(/[\\%_]/g, (char) => `\\${char}`)}%`;
      return searchUsers.all(like, like);
    },
  };
}

/** Devices and the access tokens of each. */
function createDevices(db: HomeserverDatabase) {
  const upsertDevice = db.prepare<unknown, [string, string, string | null, number, string | null]>(
    `INSERT INTO devices (user_id, device_id, display_name, last_seen_ts, last_seen_ip) VALUES (?,?,?,?,?)
     ON CONFLICT DO UPDATE SET last_seen_ts = excluded.last_seen_ts, last_seen_ip = excluded.last_seen_ip`,
  );
  const device = db.prepare<DeviceRow, [string, string]>(
    "SELECT device_id, display_name, last_seen_ts, last_seen_ip FROM devices WHERE user_id = ? AND device_id = ?",
  );
  const devices = db.prepare<DeviceRow, [string]>(
    "SELECT device_id, display_name, last_seen_ts, last_seen_ip FROM devices WHERE user_id = ? ORDER BY device_id",
  );
  const renameDevice = db.prepare<unknown, [string | null, string, string]>(
    "UPDATE devices SET display_name = ? WHERE user_id = ? AND device_id = ?",
  );
  const touchDevice = db.prepare<unknown, [number, string | null, string, string]>(
    "UPDATE devices SET last_seen_ts = ?, last_seen_ip = ? WHERE user_id = ? AND device_id = ?",
  );
  const deleteDevice = db.prepare<unknown, [string, string]>(
    "DELETE FROM devices WHERE user_id = ? AND device_id = ?",
  );
  const insertToken = db.prepare<unknown, [string, string, string, number]>(
    "INSERT INTO access_tokens (token_hash, user_id, device_id, created_ts) VALUES (?,?,?,?)",
  );
  const token = db.prepare<TokenRow, [string]>(
    "SELECT user_id, device_id FROM access_tokens WHERE token_hash = ?",
  );
  const deleteTokensOfDevice = db.prepare<unknown, [string, string]>(
    "DELETE FROM access_tokens WHERE user_id = ? AND device_id = ?",
  );
  return {
    /** Creates the device, or marks it as seen. Keeps an existing display name. */
    upsertDevice: (userId: string, deviceId: string, name: string | null, now: number, ip: string | null) => {
      upsertDevice.run(userId, deviceId, name, now, ip);
    },
    device: (userId: string, deviceId: string): DeviceRow | undefined =>
      device.get(userId, deviceId) ?? undefined,
    devices: (userId: string): DeviceRow[] => devices.all(userId),
    renameDevice: (userId: string, deviceId: string, name: string | null): void => {
      renameDevice.run(name, userId, deviceId);
    },
    touchDevice: (userId: string, deviceId: string, now: number, ip: string | null): void => {
      touchDevice.run(now, ip, userId, deviceId);
    },
    deleteDevice: (userId: string, deviceId: string): void => {
      deleteTokensOfDevice.run(userId, deviceId);
      deleteDevice.run(userId, deviceId);
    },
    insertToken: (hash: string, userId: string, deviceId: string, now: number): void => {
      insertToken.run(hash, userId, deviceId, now);
    },
    token: (hash: string): TokenRow | undefined => token.get(hash) ?? undefined,
    deleteTokensOfDevice: (userId: string, deviceId: string): void => {
      deleteTokensOfDevice.run(userId, deviceId);
    },
  };
}
