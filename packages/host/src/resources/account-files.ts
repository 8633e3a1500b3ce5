/**
 * Changes to the host's users and groups, made by the host's own tools. They leave backups of their own beside the
 * files (`/etc/passwd-` and the like); those are kept as they were, so that removing the accounts leaves no trace.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { removeDurably, removeTemporaries } from "@bureau/os/durable-file";
import { systemHost } from "@bureau/os/layout";
import { lockAccountFiles } from "@bureau/os/posix";
import { type Backups, restore } from "../record/backups.ts";
import type { Entry, InstallRecord } from "../record/install-record.ts";
import { readAccounts } from "../system/accounts.ts";
import { look, textOf } from "../system/look.ts";
import { replaceFile } from "../system/root-files.ts";
import { hasProgram, mustRun, runCommand } from "../system/run-command.ts";

const { user, operatorsGroup } = systemHost;

/** What shadow's and systemd's tools write beside the files themselves (passwd(5), lckpwdf(3)). */
const besides = ["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock"];

export async function makeAccounts(record: InstallRecord, backups: Backups): Promise<void> {
  const accounts = readAccounts();
  // What an uninstall of ours left that was cut off would keep the tool from making them.
  for (const name of [user, operatorsGroup]) {
    if (record.find({ kind: "user", name }) !== undefined && accounts.user(name) === undefined)
      await settleShadow("/etc/shadow", (line) => withoutName(line, name));
    if (record.find({ kind: "group", name }) !== undefined && accounts.group(name) === undefined)
      await settleShadow("/etc/gshadow", (line) => withoutName(line, name));
  }
  if (accounts.user(user) === undefined) record.intend({ kind: "user", name: user });
  for (const group of [user, operatorsGroup])
    if (accounts.group(group) === undefined) record.intend({ kind: "group", name: group });
  keepAccountFiles(record, backups);
  await changing(record, ["systemd-sysusers", systemHost.sysusers]);
}

export async function addMember(
  record: InstallRecord,
  backups: Backups,
  name: string,
  group: string,
): Promise<void> {
  if (!readAccounts().isMember(name, group)) record.intend({ kind: "member", user: name, group });
  keepAccountFiles(record, backups);
  await changing(record, ["gpasswd", "-a", name, group]);
}

export async function removeMember(record: InstallRecord, name: string, group: string): Promise<void> {
  if (readAccounts().group(group)?.members.includes(name) === true)
    await changing(record, ["gpasswd", "-d", name, group]);
  await settleShadow("/etc/gshadow", (line) => withoutMember(line, group, name));
}

export async function removeUser(record: InstallRecord, name: string): Promise<void> {
  if (readAccounts().user(name) !== undefined) await changing(record, ["userdel", name]);
  await settleShadow("/etc/shadow", (line) => withoutName(line, name));
}

export async function removeGroup(record: InstallRecord, name: string): Promise<void> {
  if (readAccounts().group(name) !== undefined) await changing(record, ["groupdel", name]);
  await settleShadow("/etc/gshadow", (line) => withoutName(line, name));
}

/**
 * The tools write the file first and its shadow after: one that was killed in between left a line there that none of
 * them will remove any more, and that keeps systemd-sysusers from making the group again.
 */
async function settleShadow(path: string, edit: (line: string) => string | undefined): Promise<void> {
  const edited = (text: string): string =>
    text
      .split("\n")
      .map(edit)
      .filter((line) => line !== undefined)
      .join("\n");
  // Of what others wrote every byte is kept.
  const read = (): string | undefined =>
    look(path).kind === "file" ? readFileSync(path, "latin1") : undefined;
  const isSettled = (text = read()): boolean => text === undefined || edited(text) === text;
  if (isSettled()) return;
  using _lock = lockAccountFiles();
  removeTemporaries(path);
  const [seen, text] = [look(path), read()];
  if (seen.kind !== "file" || text === undefined || isSettled(text)) return;
  replaceFile(path, Buffer.from(edited(text), "latin1"), seen);
  await restoreLabels([path]);
}

/** Undefined when the line of an account file is about `name`. */
export const withoutName = (line: string, name: string): string | undefined =>
  line.startsWith(`${name}:`) ? undefined : line;

/** The line of a group's shadow without one of its members (gshadow(5)). */
export function withoutMember(line: string, group: string, member: string): string {
  const [name, password, administrators, members] = line.split(":");
  if (name !== group || members === undefined) return line;
  const others = members.split(",").filter((one) => one !== member);
  return [name, password, administrators, others.join(",")].join(":");
}

type AccountFiles = Extract<Entry, { kind: "account-files" }>;

function accountFiles(record: InstallRecord): AccountFiles | undefined {
  const entry = record.find({ kind: "account-files", files: [] });
  return entry?.kind === "account-files" ? entry : undefined;
}

/** Before the first change: what the tools will write over is copied. */
function keepAccountFiles(record: InstallRecord, backups: Backups): void {
  if (accountFiles(record) !== undefined) return;
  record.intend({
    kind: "account-files",
    unfinished: unfinishedFiles(),
    files: besides.map((path) => {
      const before = backups.keepAside(path);
      return { path, ...(before === undefined ? {} : { before }) };
    }),
  });
}

/** Runs one of the host's tools. What it writes is ours from before it begins, however this ends. */
async function changing(record: InstallRecord, command: readonly string[]): Promise<void> {
  noteLeft(record, () => ({ sha256: undefined }));
  removeUnfinished(record);
  await mustRun(command);
  removeUnfinished(record);
  noteLeft(record, ({ path }) => digestIfPresent(path));
}

/** Remembers what our change left, to see later whether somebody else has changed accounts since. */
function noteLeft(
  record: InstallRecord,
  found: (file: { path: string }) => { sha256?: string | undefined },
): void {
  const entry = accountFiles(record);
  if (entry === undefined) return;
  record.update({
    ...entry,
    files: entry.files.map((file) => ({ ...file, ...found(file) })),
  });
}

/**
 * Removes what tools left that were killed while they worked for us; a lock among it would stop all others. While we
 * hold the lock that they take first, none is at work.
 */
function removeUnfinished(record: InstallRecord): void {
  // Earlier versions did not note what was there before they came; it is left to its owner then.
  const before = accountFiles(record)?.unfinished;
  const ours = (): string[] => unfinishedFiles().filter((name) => before?.includes(name) === false);
  if (ours().length === 0) return;
  using _lock = lockAccountFiles();
  for (const name of ours()) removeDurably(join("/etc", name));
}

const unfinishedFiles = (): string[] =>
  readdirSync("/etc").filter((name) => isUnfinished(name, () => textOf(join("/etc", name))));

/**
 * What systemd's and shadow's tools write before it takes a file's place, and leave when they are killed:
 * `.#group213e6be1e55b83b3`; `group+`, and `group.lock` and `group.1234`, which hold a pid and no more.
 */
export function isUnfinished(name: string, text: () => string | undefined): boolean {
  if (/^\.#(?:passwd|g?shadow|group)[0-9a-f]{16}$/.test(name)) return true;
  const suffix = /^(?:passwd|g?shadow|group|sub[ug]id)(\+|\.lock|\.\d+)$/.exec(name)?.[1];
  return suffix === "+" || (suffix !== undefined && /^\d*\0?$/.test(text() ?? "-"));
}

function digestIfPresent(path: string): { sha256?: string } {
  if (look(path).kind !== "file") return {};
  return { sha256: createHash("sha256").update(readFileSync(path)).digest("hex") };
}

/**
 * Puts the tools' own backups back as they were before Bureau; one that somebody else's change has written since is
 * left, and named. May be done again after it was cut off.
 */
export async function restoreAccountFiles(record: InstallRecord, entry: AccountFiles): Promise<string[]> {
  removeUnfinished(record);
  const left: string[] = [];
  for (const { path, before, sha256 } of entry.files) {
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
    else restore(path, before);
  }
  await restoreLabels(besides);
  return left;
}

/** Where files have security labels, new ones need theirs. */
async function restoreLabels(paths: readonly string[]): Promise<void> {
  if (hasProgram("restorecon")) await runCommand(["restorecon", ...paths]);
}
