/** The schema, one step per release that changed it. Steps are only appended; the count is `user_version`. */
export const migrations: readonly string[] = [
  `
  CREATE TABLE users (
    user_id TEXT PRIMARY KEY, password_hash TEXT, admin INTEGER NOT NULL, deactivated INTEGER NOT NULL DEFAULT 0,
    created_ts INTEGER NOT NULL, displayname TEXT, avatar_url TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE devices (
    user_id TEXT NOT NULL, device_id TEXT NOT NULL, display_name TEXT, last_seen_ts INTEGER, last_seen_ip TEXT,
    PRIMARY KEY (user_id, device_id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE access_tokens (
    token_hash TEXT PRIMARY KEY, user_id TEXT NOT NULL, device_id TEXT NOT NULL, created_ts INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX access_tokens_by_device ON access_tokens (user_id, device_id);

  CREATE TABLE rooms (
    room_id TEXT PRIMARY KEY, version TEXT NOT NULL, creator TEXT NOT NULL, created_ts INTEGER NOT NULL,
    published INTEGER NOT NULL DEFAULT 0
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE events (
    stream INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, room_id TEXT NOT NULL, type TEXT NOT NULL,
    state_key TEXT, sender TEXT NOT NULL, content TEXT NOT NULL, origin_server_ts INTEGER NOT NULL,
    replaces INTEGER, redacts TEXT, redacted_by TEXT, relates_to TEXT, rel_type TEXT,
    txn_device TEXT, txn_id TEXT
  ) STRICT;
  CREATE INDEX events_by_room ON events (room_id, stream);
  CREATE INDEX events_by_state ON events (room_id, type, state_key, stream) WHERE state_key IS NOT NULL;
  CREATE INDEX events_by_relation ON events (relates_to, stream) WHERE relates_to IS NOT NULL;
  CREATE UNIQUE INDEX events_by_transaction ON events (sender, txn_device, txn_id, room_id, type)
    WHERE txn_id IS NOT NULL;
  CREATE TABLE current_state (
    room_id TEXT NOT NULL, type TEXT NOT NULL, state_key TEXT NOT NULL, stream INTEGER NOT NULL,
    PRIMARY KEY (room_id, type, state_key)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE memberships (
    user_id TEXT NOT NULL, room_id TEXT NOT NULL, membership TEXT NOT NULL, stream INTEGER NOT NULL,
    forgotten INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (user_id, room_id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE aliases (
    alias TEXT PRIMARY KEY, room_id TEXT NOT NULL, creator TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX aliases_by_room ON aliases (room_id);

  CREATE TABLE account_data (
    user_id TEXT NOT NULL, room_id TEXT NOT NULL, type TEXT NOT NULL, content TEXT NOT NULL,
    stream INTEGER NOT NULL, PRIMARY KEY (user_id, room_id, type)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX account_data_by_stream ON account_data (stream);
  CREATE TABLE receipts (
    room_id TEXT NOT NULL, user_id TEXT NOT NULL, type TEXT NOT NULL, thread_id TEXT NOT NULL,
    event_id TEXT NOT NULL, ts INTEGER NOT NULL, stream INTEGER NOT NULL,
    PRIMARY KEY (room_id, user_id, type, thread_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX receipts_by_stream ON receipts (stream);
  CREATE TABLE filters (
    user_id TEXT NOT NULL, filter_id TEXT NOT NULL, content TEXT NOT NULL, PRIMARY KEY (user_id, filter_id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE pushers (
    user_id TEXT NOT NULL, app_id TEXT NOT NULL, pushkey TEXT NOT NULL, content TEXT NOT NULL,
    PRIMARY KEY (user_id, app_id, pushkey)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE to_device (
    stream INTEGER PRIMARY KEY, user_id TEXT NOT NULL, device_id TEXT NOT NULL, content TEXT NOT NULL
  ) STRICT;
  CREATE INDEX to_device_by_device ON to_device (user_id, device_id, stream);
  CREATE TABLE to_device_transactions (
    user_id TEXT NOT NULL, device_id TEXT NOT NULL, txn_id TEXT NOT NULL, type TEXT NOT NULL,
    PRIMARY KEY (user_id, device_id, txn_id, type)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE device_keys (
    user_id TEXT NOT NULL, device_id TEXT NOT NULL, content TEXT NOT NULL, PRIMARY KEY (user_id, device_id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE one_time_keys (
    user_id TEXT NOT NULL, device_id TEXT NOT NULL, algorithm TEXT NOT NULL, key_id TEXT NOT NULL,
    content TEXT NOT NULL, fallback INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, device_id, algorithm, key_id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE cross_signing_keys (
    user_id TEXT NOT NULL, usage TEXT NOT NULL, content TEXT NOT NULL, PRIMARY KEY (user_id, usage)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE device_list_changes (user_id TEXT PRIMARY KEY, stream INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE stream_floor (id INTEGER PRIMARY KEY CHECK (id = 1), value INTEGER NOT NULL) STRICT;
  `,
];
