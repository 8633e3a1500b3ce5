/**
 * Leaves a host as it was before Bureau: stops everything, then takes back what the record tells of, each thing struck
 * off as it goes, the record itself last. Killed half-way and run again, it goes on where it was. Links are removed,
 * never followed; what somebody else put into a folder of ours stays, and the receipt says so.
 */
import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { BureauError, errnoOf } from "@bureau/kit/errors";
import { removeDurably, removeTemporaries, syncPath } from "@bureau/os/durable-file";
import { systemHost, systemLayout } from "@bureau/os/layout";
import { identify, type ProcessId, stopProcess } from "@bureau/os/process-table";
import { sizeText } from "../checks/host-checks.ts";
import { restore, whyNotRestored } from "../record/backups.ts";
import { type Entry, entryKey, type InstallRecord } from "../record/install-record.ts";
import { removeGroup, removeMember, removeUser, restoreAccountFiles } from "../resources/account-files.ts";
import { removeBlock } from "../resources/block.ts";
import { removePackage } from "../resources/package.ts";
import { readAccounts } from "../system/accounts.ts";
import { firstBootUnit } from "../system/first-boot.ts";
import { look } from "../system/look.ts";
import { forgetNixConfig, removeNixRoots } from "../system/nix-host.ts";
import { setOwnership } from "../system/root-files.ts";
import { mustRun, runCommand, tryRun } from "../system/run-command.ts";
import { unitFiles } from "../units/units.ts";

export type UninstallOptions = {
  readonly removeUser: boolean;
  readonly removePackages: boolean;
  /** What becomes of files in workspace and cache; undefined: refuse while there are any. */
  readonly data: "keep" | "discard" | undefined;
};

/** What was done about one thing. */
export type Receipt = {
  readonly removed: readonly string[];
  readonly kept: readonly { readonly what: string; readonly why: string }[];
};

/** Whether something is not as it was, though nobody wanted that. */
export const isIncomplete = ({ kept }: Receipt): boolean =>
  kept.some(({ why }) => why.startsWith(HOLDS_OTHERS) || why.startsWith(NOT_PUT_BACK));

/** Whose files are people's. */
const dataFolders: readonly string[] = [systemLayout.workspaceRoot, systemLayout.cacheRoot];

/** Folders whose whole content is Bureau's. */
const ownFolders: readonly string[] = [
  systemLayout.runDir,
  systemLayout.stateDir,
  systemHost.buildsDir,
  systemHost.programsDir,
  systemHost.backupsDir,
];

/**
 * Kinds in the order they go: what runs, what starts it, what it needed. Programs go as late as can be, so that an
 * uninstall that was cut off can be run again from them.
 */
const order: readonly Entry["kind"][] = [
  "enabled",
  "member",
  "ntp",
  "sysctl",
  "apparmor",
  "block",
  "file",
  "link",
  "folder",
  "credential-secret",
  "user",
  "group",
  "account-files",
  "package",
];

const isProgram = (entry: Entry): boolean =>
  "path" in entry &&
  (entry.path.startsWith(`${systemHost.binDir}`) ||
    entry.path.startsWith(systemHost.buildsDir) ||
    entry.path === systemHost.profile);

/** Folders that hold what is needed to the end. */
const isLast = (entry: Entry): boolean =>
  entry.kind === "folder" &&
  ([systemHost.configDir, systemHost.backupsDir, systemHost.dataDir] as string[]).includes(entry.path);

/** The entries in the order they are taken back. Pure. */
export function planUninstall(entries: readonly Entry[]): Entry[] {
  const rank = (entry: Entry): number => (isLast(entry) ? 2 : isProgram(entry) ? 1 : 0);
  // Of folders, those below go first: they came last.
  const reversed = [...entries].reverse();
  return reversed.sort((a, b) => rank(a) - rank(b) || order.indexOf(a.kind) - order.indexOf(b.kind));
}

/** What an entry is about, for a person. */
export function describeEntry(entry: Entry): string {
  switch (entry.kind) {
    case "file":
    case "link":
    case "folder":
      return `${entry.kind} ${entry.path}`;
    case "block":
      return `lines in ${entry.path}`;
    case "apparmor":
      return `AppArmor profile ${entry.path}`;
    case "credential-secret":
      return `host secret ${entry.path}`;
    case "user":
    case "group":
    case "package":
      return `${entry.kind} ${entry.name}`;
    case "sysctl":
      return `setting ${entry.name}`;
    case "member":
      return `member ${entry.user} of the group ${entry.group}`;
    case "enabled":
      return `enabled unit ${entry.unit}`;
    case "account-files":
      return "backups of account files";
    case "ntp":
      return "clock set by the network";
  }
}

/** Files in workspace and cache, for the refusal. */
export function dataHeld(
  record: InstallRecord,
): { readonly path: string; readonly files: number; readonly bytes: number }[] {
  return dataFolders
    .filter((path) => record.find({ kind: "folder", path }) !== undefined)
    .map((path) => ({ path, ...measure(path) }))
    .filter(({ files }) => files > 0);
}

function measure(path: string): { files: number; bytes: number } {
  if (look(path).kind !== "folder") return { files: 0, bytes: 0 };
  const total = { files: 0, bytes: 0 };
  for (const entry of entriesOf(path)) {
    const below = join(path, entry.name);
    const size = entry.isDirectory() ? measure(below) : { files: 1, bytes: lstatSync(below).size };
    total.files += size.files;
    total.bytes += size.bytes;
  }
  return total;
}

/** A folder that the caller may not read counts as non-empty. */
function entriesOf(path: string): readonly { readonly name: string; isDirectory(): boolean }[] {
  try {
    return readdirSync(path, { withFileTypes: true });
  } catch (error) {
    if (errnoOf(error) !== "EACCES") throw error;
    return [{ name: ".", isDirectory: () => false }];
  }
}

/** @throws BureauError `conflict` while there is data nobody has said what to do with */
export function requireDecision(record: InstallRecord, options: UninstallOptions): void {
  const held = dataHeld(record);
  if (options.data !== undefined || held.length === 0) return;
  const what = held
    .map(({ path, files, bytes }) => `${path} (${files} files, ${sizeText(bytes)})`)
    .join(" and ");
  throw new BureauError("conflict", `Cannot uninstall: there are files in ${what}`, {
    hint: "--discard-data removes them, --keep-data leaves them where they are",
  });
}

/**
 * Why user and groups stay; undefined when they go. Files that are kept belong to the user: were it removed, they would
 * be the next user's who gets its number.
 */
export function whyUserStays(options: UninstallOptions, holdsData: boolean): string | undefined {
  if (!options.removeUser) return "--remove-user removes it";
  return options.data === "keep" && holdsData
    ? "it owns the kept files; it goes when they are gone, with --remove-user"
    : undefined;
}

/** Also when it is only folders that are in workspace or cache. */
export const holdsData = (record: InstallRecord): boolean =>
  dataFolders.some(
    (path) =>
      record.find({ kind: "folder", path }) !== undefined &&
      look(path).kind === "folder" &&
      readdirSync(path).length > 0,
  );

export type UninstallDeps = { readonly onRemoved: (what: string) => void; readonly clock?: Clock };

/** The state of host and record at one moment. A dry run predicts the host's state at that step. */
type Moment = {
  readonly entries: readonly Entry[];
  /** The names in a folder; undefined where there is none. */
  readonly namesIn: (path: string) => readonly string[] | undefined;
};

const namesNow = (path: string): readonly string[] | undefined =>
  look(path).kind === "folder" ? readdirSync(path) : undefined;

/** @throws BureauError when something cannot be removed; what is left is still in the record then */
export async function uninstallAll(
  record: InstallRecord,
  options: UninstallOptions,
  deps: UninstallDeps,
): Promise<Receipt> {
  const removed: string[] = [];
  const kept: { what: string; why: string }[] = [];
  const userStays = whyUserStays(options, holdsData(record));
  removeTemporaries(systemHost.installRecord);
  await stopEverything(record, deps.clock ?? systemClock);
  deps.onRemoved(EVERYTHING_RUNNING);
  for (const entry of planUninstall(record.entries)) {
    // What is known of a thing may have changed while others went.
    const current = record.find(entry);
    if (current === undefined) continue;
    const moment = { entries: record.entries, namesIn: namesNow };
    const expected = await whyStays(current, moment, options, userStays);
    const why =
      expected === undefined || isPutBack(current)
        ? ((await takeBack(current, record, userStays)) ?? expected)
        : expected;
    if (why !== undefined) {
      kept.push({ what: describeEntry(entry), why });
      continue;
    }
    removed.push(describeEntry(entry));
    deps.onRemoved(describeEntry(entry));
  }
  return { removed, kept };
}

export const EVERYTHING_RUNNING = "everything that ran";

/**
 * The receipt that {@link uninstallAll} would give: the same plan, the same questions, of a host where what goes before
 * is gone already.
 */
export async function foreseeUninstall(
  record: Pick<InstallRecord, "entries">,
  options: UninstallOptions,
  userStays: string | undefined,
  namesIn = namesNow,
): Promise<Receipt> {
  const removed: string[] = [];
  const kept: { what: string; why: string }[] = [];
  const gone = new Set<string>();
  let entries = record.entries;
  const left = (path: string): readonly string[] | undefined =>
    gone.has(path) ? undefined : namesIn(path)?.filter((name) => !gone.has(join(path, name)));
  for (const entry of planUninstall(record.entries)) {
    const why = await whyStays(entry, { entries, namesIn: left }, options, userStays);
    if (why === undefined) removed.push(describeEntry(entry));
    else kept.push({ what: describeEntry(entry), why });
    if (why !== undefined && !isPutBack(entry)) continue;
    entries = entries.filter((other) => other !== entry);
    if ("path" in entry && !("before" in entry && entry.before !== undefined)) gone.add(entry.path);
  }
  return { removed, kept };
}

/** Of a file or a link only what was there before may not come back: ours goes all the same. */
const isPutBack = ({ kind }: Entry): boolean => kind === "file" || kind === "link";

/** Who does not end by then is killed. */
const END_MS_MAX = 10_000;

async function stopEverything(record: InstallRecord, clock: Clock): Promise<void> {
  const names = unitFiles.map(({ name }) => name);
  // The daemon first: nothing it runs is to be started again.
  const daemon = names.filter((name) => name.includes("daemon"));
  const instances = names.filter((name) => name.includes("@.")).map((name) => name.replace("@.", "@*."));
  for (const units of [daemon, [firstBootUnit], names.filter((name) => !name.includes("@.")), instances])
    if (units.length > 0) await runCommand(["systemctl", "stop", "--", ...units], { timeoutMs: 120_000 });
  if (record.find({ kind: "user", name: systemHost.user }) === undefined) return;
  const uid = readAccounts().user(systemHost.user)?.uid;
  if (uid === undefined) return;
  await Promise.all(processesOf(uid).map((process) => stopProcess(process, END_MS_MAX, clock)));
}

function processesOf(uid: number): ProcessId[] {
  return readdirSync("/proc").flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    try {
      if (lstatSync(`/proc/${entry}`).uid !== uid && effectiveUid(entry) !== uid) return [];
    } catch {
      return [];
    }
    return identify(Number(entry)) ?? [];
  });
}

/** The owner of /proc/<pid> is root where a process may not be dumped. */
function effectiveUid(pid: string): number {
  const status = readTextOr(`/proc/${pid}/status`);
  return Number(/^Uid:\s+\d+\s+(\d+)/m.exec(status)?.[1] ?? -1);
}

/** Why an entry, or something of it, stays; undefined when nothing does. Changes nothing. */
async function whyStays(
  entry: Entry,
  moment: Moment,
  options: UninstallOptions,
  userStays: string | undefined,
): Promise<string | undefined> {
  switch (entry.kind) {
    case "file":
    case "link": {
      const why = entry.before && whyNotRestored({ ...entry.before, path: entry.path });
      return why === undefined ? undefined : `${NOT_PUT_BACK}${why}`;
    }
    case "folder":
      return whyFolderStays(entry, moment, options);
    case "credential-secret":
      return otherCredentials();
    case "user":
    case "group":
      return userStays;
    case "account-files":
      return userStays === undefined ? undefined : "it goes with the user";
    case "package":
      return options.removePackages ? undefined : "others may use it; --remove-packages removes it";
    default:
      return undefined;
  }
}

/** Undoes one entry and strikes it off; returns why something of it stays, where that shows only now. */
async function takeBack(
  entry: Entry,
  record: InstallRecord,
  userStays: string | undefined,
): Promise<string | undefined> {
  switch (entry.kind) {
    case "enabled":
      await disable(entry.unit);
      break;
    case "member":
      if (userStays === undefined && record.find({ kind: "group", name: entry.group }) !== undefined) break;
      await removeMember(record, entry.user, entry.group);
      break;
    case "ntp":
      await tryRun(["timedatectl", "set-ntp", "false"]);
      break;
    case "sysctl":
      await tryRun(["sysctl", "-q", "-w", `${entry.name}=${entry.before}`]);
      break;
    case "apparmor":
      await tryRun(["apparmor_parser", "-R", entry.path]);
      break;
    case "block":
      removeTemporaries(entry.path);
      removeBlock(entry.path, entry.made);
      await forgetNixConfig(entry.path);
      break;
    case "file":
    case "link":
      await takeBackPath(entry);
      break;
    case "folder":
      await takeBackFolder(entry);
      // The record went with its folder.
      if (entry.path === systemHost.configDir && !existsSync(entry.path)) return undefined;
      break;
    case "credential-secret":
      removeDurably(entry.path);
      break;
    case "user":
      await removeUser(record, entry.name);
      break;
    case "group":
      await removeGroup(record, entry.name);
      break;
    case "account-files": {
      const left = await restoreAccountFiles(record, entry);
      record.forget(entry);
      return left.length === 0 ? undefined : `others have changed accounts since: ${left.join(", ")}`;
    }
    case "package":
      await removePackage(entry.name);
      break;
  }
  record.forget(entry);
  return undefined;
}

/** What systemd was told to start it by is gone, or it is known that it is not. */
async function disable(unit: string): Promise<void> {
  const command = ["systemctl", "--quiet", "disable", unit];
  // Of a unit whose file is gone there is nothing to disable, and systemctl says that it failed.
  await (look(join(systemHost.unitDir, unit)).kind === "file" ? mustRun(command) : tryRun(command));
  syncPath(systemHost.unitDir);
  for (const name of readdirSync(systemHost.unitDir)) {
    const path = join(systemHost.unitDir, name);
    if (name.endsWith(".wants") && look(path).kind === "folder") syncPath(path);
  }
}

async function takeBackPath(entry: Extract<Entry, { kind: "file" | "link" }>): Promise<void> {
  const { path, before } = entry;
  removeTemporaries(path);
  if (before !== undefined && whyNotRestored({ ...before, path }) === undefined) restore(path, before);
  else if (look(entry.path).kind !== "folder") removeDurably(entry.path);
  if (dirname(entry.path) === systemHost.unitDir) {
    await mustRun(["systemctl", "daemon-reload"]);
    await runCommand(["systemctl", "reset-failed", entry.path.slice(systemHost.unitDir.length + 1)]);
  }
}

type FolderEntry = Extract<Entry, { kind: "folder" }>;

/** Whether everything in it is removed, except items from before the installation. */
const isEmptied = (path: string): boolean => ownFolders.includes(path) || dataFolders.includes(path);

function whyFolderStays(
  entry: FolderEntry,
  { entries, namesIn }: Moment,
  options: UninstallOptions,
): string | undefined {
  const { path, before } = entry;
  if (dataFolders.includes(path) && options.data === "keep" && (namesIn(path)?.length ?? 0) > 0)
    return "--keep-data";
  if (path === systemHost.backupsDir && entries.some(needsBackups))
    return "it holds backups that are not restored yet";
  if (before !== undefined || isEmptied(path)) return undefined;
  const names = namesIn(path);
  if (names === undefined) return undefined;
  return path === systemHost.configDir
    ? whyConfigDirStays(entry, names, entries)
    : whyNotEmpty(path, names, entries);
}

async function takeBackFolder({ path, before }: FolderEntry): Promise<void> {
  if (look(path).kind !== "folder") return;
  if (path === systemHost.programsDir) removeNixRoots(path);
  if (isEmptied(path))
    // rm, because it walks by open folders: what changes under its feet leads it nowhere else.
    for (const name of readdirSync(path))
      if (before === undefined || !before.names.includes(name))
        await mustRun(["rm", "-rf", "--one-file-system", "--", join(path, name)], { timeoutMs: 600_000 });
  syncPath(path);
  if (before !== undefined) return setOwnership(path, before);
  if (path === systemHost.configDir) rmSync(systemHost.installRecord, { force: true });
  rmdirSync(path);
  syncPath(dirname(path));
}

const needsBackups = (entry: Entry): boolean =>
  entry.kind === "account-files" ||
  ((entry.kind === "file" || entry.kind === "link") && entry.before !== undefined);

const HOLDS_OTHERS = "it holds files that are not Bureau's: ";
const NOT_PUT_BACK = "what was there before cannot be put back: ";

const notOurs = (names: readonly string[]): string => `${HOLDS_OTHERS}${names.slice(0, 5).join(", ")}`;

/** Why a folder with these names in it stays; undefined for none. Pure. */
export function whyNotEmpty(
  path: string,
  names: readonly string[],
  entries: readonly Entry[],
): string | undefined {
  const isRecorded = (below: string): boolean =>
    entries.some((entry) => "path" in entry && `${entry.path}/`.startsWith(`${below}/`));
  const others = names.filter((name) => !isRecorded(join(path, name)));
  if (others.length > 0) return notOurs(others);
  return names.length > 0 ? "it holds kept items" : undefined;
}

/** The record lies in it: it goes when nothing else is told of. */
function whyConfigDirStays(
  own: FolderEntry,
  names: readonly string[],
  entries: readonly Entry[],
): string | undefined {
  if (entries.some((entry) => entryKey(entry) !== entryKey(own))) return "it holds the record of kept items";
  const others = names.filter((name) => join(own.path, name) !== systemHost.installRecord);
  return others.length > 0 ? notOurs(others) : undefined;
}

/** Who else sealed something with the host's secret cannot open it without. Undefined when nobody did. */
async function otherCredentials(): Promise<string | undefined> {
  const stores = ["/etc/credstore.encrypted", "/run/credstore.encrypted", "/usr/lib/credstore.encrypted"];
  if (stores.some(isClosed)) return "only root may see whether others need it";
  const stored = stores.find((path) => existsSync(path) && readdirSync(path).length > 0);
  if (stored !== undefined) return `credentials in ${stored} may need it`;
  const folders = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/usr/local/lib/systemd/system",
  ].filter((path) => existsSync(path));
  const { stdout } = await runCommand(["grep", "-rlE", "(Load|Set)CredentialEncrypted=", "--", ...folders]);
  const units = stdout.split("\n").filter((path) => path !== "" && !path.includes("/bureau-"));
  return units.length > 0
    ? `units load credentials sealed with it: ${units.slice(0, 3).join(", ")}`
    : undefined;
}

function isClosed(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return false;
  } catch (error) {
    return errnoOf(error) === "EACCES";
  }
}

function readTextOr(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
