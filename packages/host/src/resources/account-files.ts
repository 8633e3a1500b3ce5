/**
 * The backups that the host's account tools write beside `/etc/passwd` and the like. They are kept as they were before
 * Bureau changed accounts, so that removing the accounts leaves no trace. Every change of accounts goes through here.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { sha256Hex } from "@bureau/os/digest";
import { removeDurably, removeTemporaries } from "@bureau/os/durable-file";
import { lockAccountFiles } from "@bureau/os/posix";
import * as v from "valibot";
import type { Backups } from "../record/backups.ts";
import type { InstallRecord } from "../record/install-record.ts";
import { restore, SavedSchema } from "../record/saved.ts";
import { look, textOf } from "../system/look.ts";
import { replaceFile } from "../system/root-files.ts";
import { hasProgram, mustRun, runCommand } from "../system/run-command.ts";
import { isUnfinished } from "../system/unfinished-account-file.ts";
import { at, defineEntry, type Stay } from "./resource.ts";

const schema = v.object({
  kind: v.literal("account-files"),
  at,
  /** Unfinished files in /etc from before Bureau; undefined in records of versions that did not note them. */
  unfinished: v.optional(v.array(v.string())),
  files: v.array(
    v.object({
      path: v.string(),
      before: v.optional(SavedSchema),
      /** What our own last change left; undefined while that is unknown. */
      sha256: v.optional(v.string()),
    }),
  ),
});
type AccountFiles = v.InferOutput<typeof schema>;

const entry = defineEntry(schema, {
  rank: 130,
  idOf: () => ONE,
  describe: () => "backups of account files",
  whyStays: (_, { userStays }) =>
    userStays === undefined ? undefined : { reason: "needed", why: "it goes with the user" },
  copiesOf: ({ files }) => files.flatMap(({ before }) => (before?.kind === "file" ? [before.copy] : [])),
  takeBack: (own, { record }) => restoreAccountFiles(record, own),
});

export const accountFiles = { entry };

/** A record has one such entry. */
const ONE = "all";

/** Files that shadow's and systemd's tools write beside the account files (passwd(5), lckpwdf(3)). */
const besides = ["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock"];

/** Before the first change: copies what the tools will write over. */
export function keepAccountFiles(record: InstallRecord, backups: Backups): void {
  if (record.find(entry, ONE) !== undefined) return;
  record.intend(entry, {
    unfinished: unfinishedFiles(),
    files: besides.map((path) => {
      const before = backups.keepAside(path);
      return { path, ...(before === undefined ? {} : { before }) };
    }),
  });
}

/** Runs one of the host's account tools. What it writes counts as ours from before it starts, however it ends. */
export async function changeAccounts(record: InstallRecord, command: readonly string[]): Promise<void> {
  noteLeft(record, () => ({ sha256: undefined }));
  removeUnfinished(record);
  await mustRun(command);
  removeUnfinished(record);
  noteLeft(record, ({ path }) => digestIfPresent(path));
}

/**
 * Edits the lines of a shadow file; `edit` returns undefined to remove a line. The tools write the file first and its shadow
 * second: a tool that was killed in between left a line that none of them removes, and that keeps systemd-sysusers from
 * making the group again.
 */
export async function editShadow(path: string, edit: (line: string) => string | undefined): Promise<void> {
  const edited = (text: string): string =>
    text
      .split("\n")
      .map(edit)
      .filter((line) => line !== undefined)
      .join("\n");
  // latin1 keeps every byte of what others wrote.
  const read = (): string | undefined =>
    look(path).kind === "file" ? readFileSync(path, "latin1") : undefined;
  const isRight = (text = read()): boolean => text === undefined || edited(text) === text;
  if (isRight()) return;
  using _lock = lockAccountFiles();
  removeTemporaries(path);
  const [seen, text] = [look(path), read()];
  if (seen.kind !== "file" || text === undefined || isRight(text)) return;
  replaceFile(path, Buffer.from(edited(text), "latin1"), seen);
  await restoreLabels([path]);
}

/** Notes what our change left, so that an uninstall can tell whether others changed accounts since. */
function noteLeft(
  record: InstallRecord,
  found: (file: { path: string }) => { sha256?: string | undefined },
): void {
  const known = record.find(entry, ONE);
  if (known === undefined) return;
  record.update({
    ...known,
    files: known.files.map((file) => ({ ...file, ...found(file) })),
  });
}

/**
 * Removes files of tools that were killed while they worked for us; a lock among them would stop all other tools. We hold
 * the lock that tools take first, so none of them is running.
 */
function removeUnfinished(record: InstallRecord): void {
  // Without a note of what was there before Bureau, nothing is removed.
  const before = record.find(entry, ONE)?.unfinished;
  const ours = (): string[] => unfinishedFiles().filter((name) => before?.includes(name) === false);
  if (ours().length === 0) return;
  using _lock = lockAccountFiles();
  for (const name of ours()) removeDurably(join("/etc", name));
}

const unfinishedFiles = (): string[] =>
  readdirSync("/etc").filter((name) => isUnfinished(name, () => textOf(join("/etc", name))));

function digestIfPresent(path: string): { sha256?: string } {
  if (look(path).kind !== "file") return {};
  return { sha256: sha256Hex(readFileSync(path)) };
}

/** Restores the tools' own backups. One that others wrote since stays. May be done again after it was cut off. */
async function restoreAccountFiles(record: InstallRecord, own: AccountFiles): Promise<Stay | undefined> {
  removeUnfinished(record);
  const left: string[] = [];
  for (const { path, before, sha256 } of own.files) {
    removeTemporaries(path);
    const present = digestIfPresent(path).sha256;
    if (
      before === undefined
        ? present === undefined
        : before.kind === "file" && present === digestIfPresent(before.copy).sha256
    )
      continue;
    if (sha256 !== undefined && present !== sha256) left.push(path);
    else if (before === undefined) removeDurably(path);
    else restore({ ...before, path });
  }
  await restoreLabels(besides);
  return left.length === 0
    ? undefined
    : { reason: "changed", why: `others have changed accounts since: ${left.join(", ")}` };
}

/** New files need the security labels of their place, where files have labels. */
async function restoreLabels(paths: readonly string[]): Promise<void> {
  if (hasProgram("restorecon")) await runCommand(["restorecon", ...paths]);
}
