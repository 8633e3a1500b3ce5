/** Files in workspace and cache: an uninstall removes them only when told to. */
import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { BureauError, errnoOf } from "@bureau/kit/errors";
import { sizeText } from "../checks/free-space.ts";
import type { InstallRecord } from "../record/install-record.ts";
import { folder } from "../resources/folder.ts";
import type { Stay, UninstallOptions } from "../resources/resource.ts";
import { look } from "../system/look.ts";
import { dataFolders } from "../units/host-folders.ts";

export type DataHeld = { readonly path: string; readonly files: number; readonly bytes: number };

const recordedDataFolders = (record: InstallRecord): readonly string[] =>
  dataFolders.filter((path) => record.find(folder.entry, path) !== undefined);

export const dataHeld = (record: InstallRecord): DataHeld[] =>
  recordedDataFolders(record)
    .map((path) => ({ path, ...measure(path) }))
    .filter(({ files }) => files > 0);

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

/** @throws BureauError `conflict` when there are files and no option says what to do with them */
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

/** True also when workspace and cache hold only folders. */
export const holdsData = (record: InstallRecord): boolean =>
  recordedDataFolders(record).some((path) => look(path).kind === "folder" && readdirSync(path).length > 0);

/**
 * Why user and groups stay; undefined when they go. Kept files belong to the user: without it, they would belong to the next
 * user with its number.
 */
export function whyUserStays(options: UninstallOptions, hasData: boolean): Stay | undefined {
  if (!options.removeUser) return { reason: "asked", why: "--remove-user removes it" };
  return options.data === "keep" && hasData
    ? { reason: "asked", why: "it owns the kept files; when they are gone, --remove-user removes it" }
    : undefined;
}
