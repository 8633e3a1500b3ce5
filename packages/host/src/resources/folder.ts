/** A folder with its owner and mode. */
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { syncPath } from "@bureau/os/durable-file";
import { systemHost } from "@bureau/os/layout";
import * as v from "valibot";
import { type EntryBase, pathOf } from "../record/entry.ts";
import type { InstallRecord } from "../record/install-record.ts";
import { readAccounts } from "../system/accounts.ts";
import { look, octal } from "../system/look.ts";
import { removeNixRoots } from "../system/nix-host.ts";
import { setOwnership } from "../system/root-files.ts";
import { mustRun } from "../system/run-command.ts";
import { dataFolders, ownFolders } from "../units/host-folders.ts";
import { holdsOthers, whyNotEmpty } from "./folder-content.ts";
import { stageOfPath } from "./placed-path.ts";
import { at, defineAction, defineEntry, type Moment, type Stay } from "./resource.ts";

const action = defineAction(
  v.object({
    kind: v.literal("folder"),
    path: v.string(),
    owner: v.string(),
    group: v.string(),
    mode: v.number(),
  }),
  {
    rank: 60,
    describe: ({ path, owner, group, mode }) => `folder ${path}, ${owner}:${group} ${octal(mode)}`,
    record(wanted, { record, backups }) {
      const { path } = wanted;
      idsOf(wanted);
      if (look(path).kind === "absent") return;
      const stat = lstatSync(path);
      if (!stat.isDirectory())
        throw new BureauError("conflict", `Cannot make the folder "${path}": something else is there`, {
          hint: `move it away: ls -l ${path}`,
        });
      const before = {
        uid: stat.uid,
        gid: stat.gid,
        mode: stat.mode & 0o7777,
        names: readdirSync(path).sort(),
      };
      backups.keepOwnership(path);
      record.intend(entry, { path, before });
    },
    apply(wanted, { record }) {
      const { path, mode } = wanted;
      const ids = idsOf(wanted);
      makeParents(path, record);
      if (look(path).kind === "absent") {
        record.intend(entry, { path });
        mkdirSync(path, { mode: 0o700 });
      }
      setOwnership(path, { ...ids, mode });
    },
  },
);

function idsOf({ path, owner, group }: { path: string; owner: string; group: string }) {
  const accounts = readAccounts();
  const [uid, gid] = [accounts.user(owner)?.uid, accounts.group(group)?.gid];
  if (uid !== undefined && gid !== undefined) return { uid, gid };
  throw new BureauError("not-found", `Cannot give "${path}" to ${owner}:${group}: no such user or group`);
}

const schema = v.object({
  kind: v.literal("folder"),
  path: v.string(),
  at,
  /** Owner, mode and names of a folder that was there before; undefined when Bureau made it. */
  before: v.optional(
    v.object({ uid: v.number(), gid: v.number(), mode: v.number(), names: v.array(v.string()) }),
  ),
});
type FolderEntry = v.InferOutput<typeof schema>;

const entry = defineEntry(schema, {
  rank: 90,
  idOf: ({ path }) => path,
  stageOf: ({ path }) => (neededToTheEnd.includes(path) ? "last" : stageOfPath(path)),
  describe: ({ path }) => `folder ${path}`,
  whyStays,
  freedPath: ({ path, before }) => (before === undefined ? path : undefined),
  takeBack,
});

export const folder = { action, entry };

/** Makes missing folders above a file of ours, each noted before it is made. */
export function makeParents(path: string, record: InstallRecord): void {
  const parent = dirname(path);
  if (existsSync(parent)) return;
  makeParents(parent, record);
  record.intend(entry, { path: parent });
  mkdirSync(parent, { mode: 0o755 });
  chmodSync(parent, 0o755);
}

/** The record, the backups, and the folder above the programs. */
const neededToTheEnd: readonly string[] = [systemHost.configDir, systemHost.backupsDir, systemHost.dataDir];

/** Everything in it is removed, except names from before the installation. */
const isEmptied = (path: string): boolean => ownFolders.includes(path) || dataFolders.includes(path);

/** Reads a folder only when the answer depends on it: the caller of a dry run may not read all of them. */
function whyStays(own: FolderEntry, moment: Moment): Stay | undefined {
  const { path, before } = own;
  const { options, namesIn, needsBackups, entries } = moment;
  if (dataFolders.includes(path) && options.data === "keep" && (namesIn(path)?.length ?? 0) > 0)
    return { reason: "asked", why: "--keep-data" };
  if (path === systemHost.backupsDir && needsBackups())
    return { reason: "needed", why: "it holds backups that are not restored yet" };
  if (before !== undefined || isEmptied(path)) return undefined;
  const names = namesIn(path);
  if (names === undefined) return undefined;
  return path === systemHost.configDir
    ? whyConfigDirStays(path, names, entries)
    : whyNotEmpty(path, names, entries);
}

/** The record is in it, so it goes when no other entry is left. */
function whyConfigDirStays(
  path: string,
  names: readonly string[],
  entries: readonly EntryBase[],
): Stay | undefined {
  if (entries.some((known) => known.kind !== entry.kind || pathOf(known) !== path))
    return { reason: "needed", why: "it holds the record of kept items" };
  const others = names.filter((name) => join(path, name) !== systemHost.installRecord);
  return others.length > 0 ? holdsOthers(others) : undefined;
}

async function takeBack({ path, before }: FolderEntry): Promise<void> {
  if (look(path).kind !== "folder") return;
  if (path === systemHost.buildDir) removeNixRoots(path);
  if (isEmptied(path))
    // rm(1) walks by open folders: a name that changes meanwhile leads it nowhere else.
    for (const name of readdirSync(path))
      if (before === undefined || !before.names.includes(name))
        await mustRun(["rm", "-rf", "--one-file-system", "--", join(path, name)], { timeoutMs: 600_000 });
  syncPath(path);
  if (before !== undefined) return setOwnership(path, before);
  if (path === systemHost.configDir) rmSync(systemHost.installRecord, { force: true });
  rmdirSync(path);
  syncPath(dirname(path));
}
