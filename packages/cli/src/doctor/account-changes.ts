/**
 * Changes to the host's users and groups, made by the host's own tools. They leave backups of their own beside the
 * files (`/etc/passwd-` and the like); those are kept as they were, so that removing the accounts leaves no trace.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { systemHost } from "@bureau/kit/layout";
import { lockAccountFiles } from "@bureau/kit/posix";
import { readAccounts } from "./accounts.ts";
import { type Backups, removeTemporaries, restore } from "./backups.ts";
import type { Entry, InstallRecord } from "./install-record.ts";
import { look } from "./look.ts";
import { hasProgram, mustRun, runCommand } from "./run-command.ts";

const { user, operatorsGroup } = systemHost;

/** What shadow's and systemd's tools write beside the files themselves (passwd(5), lckpwdf(3)). */
const besides = ["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock"];

/**
 * What those tools write before it takes a file's place, and leave when they are killed: `.#group213e6be1e55b83b3` is
 * systemd's, `group+`, `group.lock` and `group.1234` are shadow's.
 */
export const isUnfinishedAccountFile = (name: string): boolean =>
  /^(?:\.#(?:passwd|group|g?shadow)[0-9a-f]{16}|(?:passwd|group|g?shadow|sub[ug]id)(?:\+|\.lock|\.\d+))$/.test(
    name,
  );
const unfinishedFiles = (): string[] => readdirSync("/etc").filter(isUnfinishedAccountFile);

export async function makeAccounts(record: InstallRecord, backups: Backups): Promise<void> {
  const accounts = readAccounts();
  if (accounts.user(user) === undefined) record.intend({ kind: "user", name: user });
  for (const group of [user, operatorsGroup])
    if (accounts.group(group) === undefined) record.intend({ kind: "group", name: group });
  await changing(record, backups, () => mustRun(["systemd-sysusers", systemHost.sysusers]));
}

export async function addMember(
  record: InstallRecord,
  backups: Backups,
  name: string,
  group: string,
): Promise<void> {
  if (!readAccounts().isMember(name, group)) record.intend({ kind: "member", user: name, group });
  await changing(record, backups, () => mustRun(["gpasswd", "-a", name, group]));
}

export async function removeMember(record: InstallRecord, name: string, group: string): Promise<void> {
  if (readAccounts().group(group)?.members.includes(name) !== true) return;
  await mustRun(["gpasswd", "-d", name, group]);
  noteLeft(record);
}

export async function removeUser(record: InstallRecord, name: string): Promise<void> {
  if (readAccounts().user(name) === undefined) return;
  await mustRun(["userdel", name]);
  noteLeft(record);
}

export async function removeGroup(record: InstallRecord, name: string): Promise<void> {
  if (readAccounts().group(name) === undefined) return;
  await mustRun(["groupdel", name]);
  noteLeft(record);
}

async function changing(record: InstallRecord, backups: Backups, act: () => Promise<unknown>): Promise<void> {
  if (accountFiles(record) === undefined)
    record.intend({
      kind: "account-files",
      unfinished: unfinishedFiles(),
      files: besides.map((path) => {
        const before = backups.keepAside(path);
        return { path, ...(before === undefined ? {} : { before }) };
      }),
    });
  await act();
  noteLeft(record);
}

type AccountFiles = Extract<Entry, { kind: "account-files" }>;

function accountFiles(record: InstallRecord): AccountFiles | undefined {
  const entry = record.find({ kind: "account-files", files: [] });
  return entry?.kind === "account-files" ? entry : undefined;
}

/** Remembers what our change left, to see later whether somebody else has changed accounts since. */
function noteLeft(record: InstallRecord): void {
  const entry = accountFiles(record);
  if (entry === undefined) return;
  removeUnfinished(entry);
  record.update({ ...entry, files: entry.files.map((file) => ({ ...file, ...digestIfPresent(file.path) })) });
}

/** Removes what tools left that were killed while they worked for us. With the lock held no tool is at work. */
function removeUnfinished({ unfinished: before }: AccountFiles): void {
  // Earlier versions did not note what was there before they came; it is left to its owner then.
  if (before === undefined || unfinishedFiles().every((name) => before.includes(name))) return;
  using _lock = lockAccountFiles();
  for (const name of unfinishedFiles())
    if (!before.includes(name)) rmSync(join("/etc", name), { force: true });
}

function digestIfPresent(path: string): { sha256?: string } {
  if (look(path).kind !== "file") return {};
  return { sha256: createHash("sha256").update(readFileSync(path)).digest("hex") };
}

/**
 * Puts the tools' own backups back as they were before Bureau; one that somebody else's change has written since is
 * left, and named. May be done again after it was cut off.
 */
export async function restoreAccountFiles(entry: AccountFiles): Promise<string[]> {
  removeUnfinished(entry);
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
    else if (before === undefined) rmSync(path, { force: true });
    else restore(path, before);
  }
  // Where files have security labels, new ones need theirs.
  if (hasProgram("restorecon")) await runCommand(["restorecon", ...besides]);
  return left;
}
