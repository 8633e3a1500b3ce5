/** Undo: restores what the last fix replaced. */
import { rmSync } from "node:fs";
import { BureauError } from "@bureau/kit/errors";
import { systemHost } from "@bureau/os/layout";
import { within } from "@bureau/os/mounts";
import { lastBackups } from "../record/backups.ts";
import type { InstallRecord } from "../record/install-record.ts";
import { restore, type SavedAt, whyNotRestored } from "../record/saved.ts";
import { file } from "../resources/file.ts";
import { link } from "../resources/link.ts";
import { runCommand } from "../system/run-command.ts";

export type Undone = {
  readonly time: string;
  readonly restored: readonly string[];
  /** What has no place any more, or no copy. */
  readonly skipped: readonly { readonly path: string; readonly why: string }[];
};

/**
 * Restores what the last fix replaced, in reverse order, and forgets that run. What cannot be restored is skipped, so the
 * runs before can still be undone. @throws BureauError `not-found` when no fix replaced anything
 */
export async function undoLast(record: InstallRecord, last = lastBackups()): Promise<Undone> {
  if (last === undefined) throw new BureauError("not-found", "Cannot undo: no fix has replaced anything");
  const restored: string[] = [];
  const skipped: { path: string; why: string }[] = [];
  for (const item of last.items.toReversed()) {
    const why = whyNotRestored(item);
    if (why !== undefined) {
      skipped.push({ path: item.path, why });
      continue;
    }
    restore(item);
    forgetRestored(record, item);
    restored.push(item.path);
  }
  rmSync(last.dir, { recursive: true, force: true });
  if (restored.some((path) => within(path, systemHost.unitDir)))
    await runCommand(["systemctl", "daemon-reload"]);
  return { time: last.time, restored, skipped };
}

/** What was there before Bureau and is there again is not ours. */
function forgetRestored(record: InstallRecord, item: SavedAt): void {
  if (item.kind === "folder") return;
  const entry = record.find(file.entry, item.path) ?? record.find(link.entry, item.path);
  const before = entry?.before;
  if (entry === undefined || before === undefined) return;
  const isOriginal = item.kind === "link" || (before.kind === "file" && before.copy === item.copy);
  if (isOriginal) record.forget(entry);
}
