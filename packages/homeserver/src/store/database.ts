/**
 * The one owner of the SQLite file: opening, locking, migrations, transactions and the stream position.
 *
 * Always holds: WAL with synchronous=FULL, so a committed transaction survives kill -9 and power loss; the file is
 * locked exclusively, because rooms and memberships are cached in memory and a second process would make the caches
 * lie; every row that /sync hands out carries a `stream` number from one counter, so one number is a sync token.
 * SQL is written only in this folder. Transactions nest by joining the outer one.
 */
import { Database, SQLiteError, type SQLQueryBindings, type Statement } from "bun:sqlite";
import { chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { BureauError, messageOf } from "@bureau/kit/errors";
import { migrations } from "./migrations.ts";

/** SQLite's number for a file that gives free pages back on request. */
const INCREMENTAL = 2;
/** Free pages that stay in the file: 4 MiB. */
const FREE_PAGES_KEPT = 1_024;
/** Pages given back at a time: a few milliseconds. */
const PAGES_RELEASED = 256;
/** A larger file of an earlier version is not rewritten at start, because that takes more than a second. */
const COMPACT_BYTES_MAX = 67_108_864;

export class HomeserverDatabase {
  readonly #sqlite: Database;
  #depth = 0;
  #position: number;
  #undo: (() => void)[] = [];
  #afterCommit: (() => void)[] = [];

  constructor(sqlite: Database) {
    this.#sqlite = sqlite;
    this.#position = storedPosition(sqlite);
  }

  /** A statement compiled once; keep it in a field. */
  prepare<Row, Params extends SQLQueryBindings[]>(sql: string): Statement<Row, Params> {
    return this.#sqlite.prepare(sql) as Statement<Row, Params>;
  }

  /** The newest stream number in use: what a sync token made now points at. */
  get position(): number {
    return this.#position;
  }

  /**
   * The next stream number, inside a transaction. A rollback takes it back: a token must never point past what is
   * stored, or a restart would hand the numbers in between out again and hide what got them.
   */
  advance(): number {
    this.#position += 1;
    return this.#position;
  }

  /** Runs `act` in a transaction, durable when this returns. A throw rolls everything back and is passed on. */
  transaction<T>(act: () => T): T {
    if (this.#depth > 0) return act();
    this.#sqlite.run("BEGIN IMMEDIATE");
    this.#depth += 1;
    const before = this.#position;
    let result: T;
    try {
      result = act();
      this.#sqlite.run("COMMIT");
    } catch (error) {
      this.#rollBack(before);
      throw error;
    } finally {
      this.#depth -= 1;
    }
    const after = this.#afterCommit;
    this.#afterCommit = [];
    this.#undo = [];
    for (const run of after) run();
    return result;
  }

  /** Inside a transaction: how to take back a change of memory if it fails. Run newest first. */
  onRollback(undo: () => void): void {
    this.#undo.push(undo);
  }

  /** Inside a transaction: what to do once it is durable, in order. */
  afterCommit(run: () => void): void {
    this.#afterCommit.push(run);
  }

  /**
   * Gives a part of the free pages back to the file system when many are free; false when there is no more to do. Pages
   * stay that the next events need anyway. No effect on a file that an earlier version made, until {@link compact}.
   */
  releaseSpace(): boolean {
    const { autoVacuum, pages, free } = pagesOf(this.#sqlite);
    if (autoVacuum !== INCREMENTAL || free <= Math.max(FREE_PAGES_KEPT, pages / 4)) return false;
    this.#sqlite.run(`PRAGMA incremental_vacuum(${PAGES_RELEASED})`);
    return true;
  }

  close(): void {
    this.#sqlite.close(true);
  }

  #rollBack(position: number): void {
    if (this.#sqlite.inTransaction) this.#sqlite.run("ROLLBACK");
    this.#position = position;
    const undo = this.#undo.reverse();
    this.#undo = [];
    this.#afterCommit = [];
    for (const run of undo) run();
  }
}

/** Whether a statement failed because the database's file system is full. */
export const isDiskFull = (error: unknown): boolean =>
  error instanceof SQLiteError && (error.code === "SQLITE_FULL" || error.code === "SQLITE_IOERR_WRITE");

/** Opens or makes `homeserver.db` in `dataDir` (made with mode 0700) and brings its schema up to date. */
export function openDatabase(dataDir: string): HomeserverDatabase {
  const path = join(dataDir, "homeserver.db");
  let sqlite: Database | undefined;
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    sqlite = new Database(path, { create: true, strict: true });
    // Counts for new files only, and only before anything is written.
    sqlite.run("PRAGMA auto_vacuum = INCREMENTAL");
    sqlite.run("PRAGMA locking_mode = EXCLUSIVE");
    sqlite.run("PRAGMA journal_mode = WAL");
    sqlite.run("PRAGMA synchronous = FULL");
    sqlite.run("PRAGMA foreign_keys = ON");
    // 4 MiB of page cache: the working set of one machine's rooms, and the process stays small.
    sqlite.run("PRAGMA cache_size = -4096");
    // Password hashes are private, for any mode of the folder. SQLite gives its WAL the same mode.
    chmodSync(path, 0o600);
    migrate(sqlite, path);
    compact(sqlite);
    return new HomeserverDatabase(sqlite);
  } catch (error) {
    sqlite?.close();
    if (error instanceof BureauError) throw error;
    const locked = /locked|busy/i.test(messageOf(error));
    throw new BureauError(locked ? "conflict" : "failed", `Cannot open the homeserver database ${path}`, {
      hint: locked ? "another homeserver runs on this data directory: stop it first" : "",
      cause: error,
    });
  }
}

function pagesOf(sqlite: Database): { autoVacuum: number; pages: number; free: number; bytes: number } {
  const read = (name: string): number =>
    Object.values(sqlite.query<Record<string, number>, []>(`PRAGMA ${name}`).get() ?? {})[0] ?? 0;
  const [pages, free] = [read("page_count"), read("freelist_count")];
  return { autoVacuum: read("auto_vacuum"), pages, free, bytes: (pages - free) * read("page_size") };
}

/**
 * Rewrites a file of an earlier version once it is mostly free pages, so that it shrinks and can give pages back from now on.
 * Where that is not possible, without space or without a folder for temporary files, the file stays as it is.
 */
function compact(sqlite: Database): void {
  const { autoVacuum, pages, free, bytes } = pagesOf(sqlite);
  if (autoVacuum === INCREMENTAL || free < pages / 2 || bytes > COMPACT_BYTES_MAX) return;
  try {
    sqlite.run("PRAGMA auto_vacuum = INCREMENTAL");
    sqlite.run("VACUUM");
  } catch (error) {
    if (!isDiskFull(error) && !lacksTemporaryFile(error)) throw error;
  }
}

/** Whether SQLite could not make or use a temporary file. */
const lacksTemporaryFile = (error: unknown): boolean =>
  error instanceof SQLiteError && /^SQLITE_(?:CANTOPEN|IOERR)/.test(error.code ?? "");

function migrate(sqlite: Database, path: string): void {
  const row = sqlite.query<{ user_version: number }, []>("PRAGMA user_version").get();
  const version = row?.user_version ?? 0;
  if (version > migrations.length) {
    throw new BureauError("unsupported", `Database ${path} has schema ${version}, newer than this program`, {
      hint: `this program knows schema ${migrations.length}: install the newer release again`,
    });
  }
  for (const [index, sql] of migrations.entries()) {
    if (index < version) continue;
    sqlite.transaction(() => {
      sqlite.run(sql);
      sqlite.run(`PRAGMA user_version = ${index + 1}`);
    })();
  }
}

/** The largest stream number ever stored. `stream_floor` covers rows that were deleted after delivery. */
function storedPosition(sqlite: Database): number {
  const row = sqlite
    .query<{ position: number | null }, []>(
      `SELECT MAX(position) AS position FROM (
         SELECT MAX(stream) AS position FROM events
         UNION ALL SELECT MAX(stream) FROM account_data
         UNION ALL SELECT MAX(stream) FROM receipts
         UNION ALL SELECT MAX(stream) FROM to_device
         UNION ALL SELECT MAX(stream) FROM device_list_changes
         UNION ALL SELECT value FROM stream_floor)`,
    )
    .get();
  return row?.position ?? 0;
}
