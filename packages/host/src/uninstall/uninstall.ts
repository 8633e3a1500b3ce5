/**
 * Leaves a host as it was before Bureau: stops everything, then takes back each entry of the record and removes it from the
 * record, the record itself last. An uninstall that was killed continues when it is run again. Links are removed, never
 * followed. What others put into a folder of ours stays, and the receipt says so.
 */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { removeTemporaries } from "@bureau/os/durable-file";
import { systemHost } from "@bureau/os/layout";
import type { EntryBase } from "../record/entry.ts";
import type { InstallRecord } from "../record/install-record.ts";
import { describeEntry, entryKindOf } from "../resources/registry.ts";
import type { Moment, Stay, UninstallOptions } from "../resources/resource.ts";
import { look } from "../system/look.ts";
import { holdsData, whyUserStays } from "./data-held.ts";
import { planUninstall } from "./plan-uninstall.ts";
import { stopEverything } from "./stop-everything.ts";

/** What was removed, and what stays. */
export type Receipt = {
  readonly removed: readonly string[];
  readonly kept: readonly ({ readonly what: string } & Stay)[];
};

/** True when something is not as it was, and no option asked for that. */
export const isIncomplete = ({ kept }: Receipt): boolean =>
  kept.some(({ reason }) => reason === "holds-others" || reason === "not-restored");

/** The receipt as `--json` prints it. */
export const receiptJson = ({ removed, kept }: Receipt) => ({
  removed,
  kept: kept.map(({ what, why }) => ({ what, why })),
});

const needsBackups = (entries: readonly EntryBase[]): boolean =>
  entries.some((entry) => entryKindOf(entry).copiesOf?.(entry) !== undefined);

const namesNow = (path: string): readonly string[] | undefined =>
  look(path).kind === "folder" ? readdirSync(path) : undefined;

const EVERYTHING_RUNNING = "everything that ran";

export type UninstallDeps = { readonly onRemoved: (what: string) => void; readonly clock?: Clock };

/** @throws BureauError when something cannot be removed; the record still has it then */
export async function uninstallAll(
  record: InstallRecord,
  options: UninstallOptions,
  deps: UninstallDeps,
): Promise<Receipt> {
  const removed: string[] = [];
  const kept: ({ what: string } & Stay)[] = [];
  const userStays = whyUserStays(options, holdsData(record));
  removeTemporaries(systemHost.installRecord);
  await stopEverything(record, deps.clock ?? systemClock);
  deps.onRemoved(EVERYTHING_RUNNING);
  for (const planned of planUninstall(record.entries)) {
    // Its facts may have changed while others were taken back.
    const entry = record.current(planned);
    if (entry === undefined) continue;
    const kind = entryKindOf(entry);
    const what = describeEntry(entry);
    const { entries } = record;
    const moment = {
      entries,
      namesIn: namesNow,
      options,
      userStays,
      needsBackups: () => needsBackups(entries),
    };
    let stay = await kind.whyStays?.(entry, moment);
    if (stay === undefined || kind.goesAnyway === true) {
      stay = (await kind.takeBack(entry, { record, userStays })) ?? stay;
      // The record is removed with its folder.
      if (existsSync(systemHost.configDir)) record.forget(entry);
    }
    if (stay !== undefined) {
      kept.push({ what, ...stay });
      continue;
    }
    removed.push(what);
    deps.onRemoved(what);
  }
  return { removed, kept };
}

/** The receipt that {@link uninstallAll} would give: the same plan and questions, with the host's state predicted. */
export async function foreseeUninstall(
  record: Pick<InstallRecord, "entries">,
  options: UninstallOptions,
  userStays: Stay | undefined,
  namesIn: Moment["namesIn"] = namesNow,
): Promise<Receipt> {
  const removed: string[] = [];
  const kept: ({ what: string } & Stay)[] = [];
  const gone = new Set<string>();
  let entries = record.entries;
  const left = (path: string): readonly string[] | undefined =>
    gone.has(path) ? undefined : namesIn(path)?.filter((name) => !gone.has(join(path, name)));
  for (const entry of planUninstall(record.entries)) {
    const kind = entryKindOf(entry);
    const moment = { entries, namesIn: left, options, userStays, needsBackups: () => needsBackups(entries) };
    const stay = await kind.whyStays?.(entry, moment);
    if (stay === undefined) removed.push(describeEntry(entry));
    else kept.push({ what: describeEntry(entry), ...stay });
    if (stay !== undefined && kind.goesAnyway !== true) continue;
    entries = entries.filter((other) => other !== entry);
    const freed = kind.freedPath?.(entry);
    if (freed !== undefined) gone.add(freed);
  }
  return { removed, kept };
}
