/**
 * What Bureau made on this host: /etc/bureau/installed.json. Written durably before each act, so that whatever was
 * made is known even when the maker was killed; an entry whose thing never came to be is no harm. Only root writes
 * here: an uninstall removes exactly what the record says, and nobody else may say it.
 *
 * The first entry about a thing stays: it tells what was there before Bureau came.
 */
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { BureauError } from "@bureau/kit/errors";
import { readIfPresent, removeTemporaries, writeDurably } from "@bureau/os/durable-file";
import { systemHost } from "@bureau/os/layout";
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import { look } from "../system/look.ts";

const at = v.string();
const SavedSchema = v.variant("kind", [
  v.object({ kind: v.literal("file"), copy: v.string(), uid: v.number(), gid: v.number(), mode: v.number() }),
  v.object({ kind: v.literal("link"), target: v.string(), uid: v.number(), gid: v.number() }),
]);
/** What stood in a place before: a file whose copy is in the backups, or a link. */
export type Saved = v.InferOutput<typeof SavedSchema>;

const EntrySchema = v.variant("kind", [
  v.object({ kind: v.literal("file"), path: v.string(), at, before: v.optional(SavedSchema) }),
  v.object({ kind: v.literal("link"), path: v.string(), at, before: v.optional(SavedSchema) }),
  v.object({
    kind: v.literal("folder"),
    path: v.string(),
    at,
    /** What an existing folder was like, and the names in it; undefined when we made it. */
    before: v.optional(
      v.object({ uid: v.number(), gid: v.number(), mode: v.number(), names: v.array(v.string()) }),
    ),
  }),
  /** Lines of ours in a file that is others', or, `made`, that there was none of. */
  v.object({ kind: v.literal("block"), path: v.string(), at, made: v.boolean() }),
  v.object({ kind: v.literal("user"), name: v.string(), at }),
  v.object({ kind: v.literal("group"), name: v.string(), at }),
  v.object({ kind: v.literal("member"), user: v.string(), group: v.string(), at }),
  v.object({
    kind: v.literal("account-files"),
    at,
    /** What killed tools had left in /etc before Bureau came; undefined in records of versions that did not look. */
    unfinished: v.optional(v.array(v.string())),
    files: v.array(
      v.object({
        path: v.string(),
        before: v.optional(SavedSchema),
        /** What our own last change left; undefined while that is not known. */
        sha256: v.optional(v.string()),
      }),
    ),
  }),
  v.object({ kind: v.literal("enabled"), unit: v.string(), at }),
  v.object({ kind: v.literal("package"), name: v.string(), at }),
  v.object({ kind: v.literal("sysctl"), name: v.string(), at, before: v.string() }),
  v.object({ kind: v.literal("apparmor"), path: v.string(), at }),
  v.object({ kind: v.literal("credential-secret"), path: v.string(), at }),
  v.object({ kind: v.literal("ntp"), at }),
]);
export type Entry = v.InferOutput<typeof EntrySchema>;

const RecordSchema = v.object({ version: v.literal(1), entries: v.array(EntrySchema) });

/** Distributes over the kinds, which `Omit` does not. */
type WithoutTime<T> = T extends unknown ? Omit<T, "at"> : never;
export type NewEntry = WithoutTime<Entry>;

/** Two entries with the same key are about the same thing. */
export function entryKey(entry: NewEntry | Entry): string {
  switch (entry.kind) {
    case "file":
    case "link":
      return `path ${entry.path}`;
    case "folder":
      return `folder ${entry.path}`;
    case "block":
    case "apparmor":
    case "credential-secret":
      return `${entry.kind} ${entry.path}`;
    case "user":
    case "group":
    case "package":
    case "sysctl":
      return `${entry.kind} ${entry.name}`;
    case "member":
      return `member ${entry.user} ${entry.group}`;
    case "enabled":
      return `enabled ${entry.unit}`;
    case "account-files":
    case "ntp":
      return entry.kind;
  }
}

export class InstallRecord {
  readonly #path: string;
  readonly #now: () => Date;
  #entries: Entry[];

  constructor(path: string, entries: readonly Entry[], now: () => Date) {
    this.#path = path;
    this.#entries = [...entries];
    this.#now = now;
  }

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  find(wanted: NewEntry): Entry | undefined {
    return this.#entries.find((entry) => entryKey(entry) === entryKey(wanted));
  }

  /** Notes what is about to be done. Durable when it returns. */
  intend(entry: NewEntry): void {
    if (this.find(entry) !== undefined) return;
    this.#entries.push({ ...entry, at: this.#now().toISOString() } as Entry);
    this.#write();
  }

  /** Replaces an entry's facts. */
  update(entry: Entry): void {
    this.#entries = this.#entries.map((known) => (entryKey(known) === entryKey(entry) ? entry : known));
    this.#write();
  }

  /** The thing is gone. */
  forget(entry: Entry): void {
    this.#entries = this.#entries.filter((known) => entryKey(known) !== entryKey(entry));
    this.#write();
  }

  #write(): void {
    const text = `${JSON.stringify({ version: 1, entries: this.#entries }, null, 2)}\n`;
    writeDurably(this.#path, text, 0o644);
  }
}

const now = (): Date => new Date();

/** The host's record; undefined when there is none. @throws BureauError when it cannot be read */
export function readRecord(path: string = systemHost.installRecord): InstallRecord | undefined {
  const text = readIfPresent(path);
  if (text === undefined) return undefined;
  requireRoots(path);
  try {
    return new InstallRecord(path, parseJson(RecordSchema, text, path).entries, now);
  } catch (error) {
    throw new BureauError("failed", `Cannot read the record of what Bureau made on this host, "${path}"`, {
      hint: "look at it: it is JSON; without it nothing is removed",
      cause: error,
    });
  }
}

/** @throws BureauError `forbidden` when somebody else than root could have written what root is to believe */
function requireRoots(path: string): void {
  const seen = look(path);
  if (process.getuid?.() !== 0 || (seen.kind === "file" && seen.uid === 0 && (seen.mode & 0o022) === 0))
    return;
  throw new BureauError(
    "forbidden",
    `Cannot believe the record "${path}": others than root may have written it`,
    {
      hint: `look at it; if it is right: sudo chown root:root ${path}; sudo chmod 644 ${path}`,
    },
  );
}

/** The host's record, begun when there is none. Its folder is the first thing it tells of. */
export function openRecord(): InstallRecord {
  const known = readRecord();
  if (known !== undefined) return known;
  removeTemporaries(systemHost.installRecord);
  // An empty folder of that name is what a doctor left that was killed right here.
  const isOurs = !existsSync(systemHost.configDir) || readdirSync(systemHost.configDir).length === 0;
  mkdirSync(systemHost.configDir, { recursive: true, mode: 0o755 });
  const record = new InstallRecord(systemHost.installRecord, [], now);
  if (isOurs) record.intend({ kind: "folder", path: systemHost.configDir });
  return record;
}
