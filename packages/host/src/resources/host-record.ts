/** The record of this host, read and begun. */
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { BureauError } from "@bureau/kit/errors";
import { readIfPresent, removeTemporaries } from "@bureau/os/durable-file";
import { systemHost } from "@bureau/os/layout";
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import type { EntryBase } from "../record/entry.ts";
import { InstallRecord } from "../record/install-record.ts";
import { look } from "../system/look.ts";
import { folder } from "./folder.ts";
import { EntrySchema, keyOfEntry } from "./registry.ts";

const RecordSchema = v.object({ version: v.literal(1), entries: v.array(EntrySchema) });

const recordAt = (path: string, entries: readonly EntryBase[]): InstallRecord =>
  new InstallRecord({ path, entries, keyOfEntry, now: () => new Date() });

/** The host's record; undefined when there is none. @throws BureauError when it cannot be read */
export function readRecord(path: string = systemHost.installRecord): InstallRecord | undefined {
  const text = readIfPresent(path);
  if (text === undefined) return undefined;
  requireRootOnly(path);
  try {
    return recordAt(path, parseJson(RecordSchema, text, path).entries);
  } catch (error) {
    throw new BureauError("failed", `Cannot read the record of what Bureau made on this host, "${path}"`, {
      hint: "look at it: it is JSON; without it nothing is removed",
      cause: error,
    });
  }
}

/** @throws BureauError `forbidden` when another user than root could have written the record that root acts on */
function requireRootOnly(path: string): void {
  const seen = look(path);
  if (process.getuid?.() !== 0 || (seen.kind === "file" && seen.uid === 0 && (seen.mode & 0o022) === 0))
    return;
  throw new BureauError("forbidden", `Cannot trust the record "${path}": others than root can write it`, {
    hint: `look at it; if it is right: sudo chown root:root ${path}; sudo chmod 644 ${path}`,
  });
}

/** The host's record, begun when there is none. Its folder is its first entry. */
export function openRecord(): InstallRecord {
  const known = readRecord();
  if (known !== undefined) return known;
  removeTemporaries(systemHost.installRecord);
  // A doctor that was killed right here left an empty folder.
  const isOurs = !existsSync(systemHost.configDir) || readdirSync(systemHost.configDir).length === 0;
  mkdirSync(systemHost.configDir, { recursive: true, mode: 0o755 });
  const record = recordAt(systemHost.installRecord, []);
  if (isOurs) record.intend(folder.entry, { path: systemHost.configDir });
  return record;
}
