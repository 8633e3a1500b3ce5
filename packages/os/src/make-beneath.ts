/**
 * Makes folders and files below a folder that others may write to. Each step starts at the open parent folder and
 * follows no link, so links that others create, before or meanwhile, never lead out of it.
 */
import { closeSync, constants, fstatSync, mkdirSync, openSync } from "node:fs";
import { errnoOf } from "@bureau/kit/errors";
import { openBeneath, openHandle } from "./open-beneath.ts";

export type Wanted = {
  readonly kind: "folder" | "file";
  /** Create missing parts; otherwise they must exist. */
  readonly make: boolean;
  /** Mode of folders that are made; {@link FOLDER_MODE} by default. */
  readonly folderMode?: number;
};

/** Why the path is unusable: another file is in its way, or it is missing and may not be created. */
export type Obstacle = {
  readonly part: string;
  readonly why: "a link" | "no folder" | "no file" | "missing";
};

const FOLDER_MODE = 0o755;
const FILE_MODE = 0o644;
const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;

/**
 * Looks for `path`, or makes it, below `root`. `path` is relative and normalised, without `..`; empty stands for the
 * root.
 * @returns the obstacle, undefined when the path exists
 */
export function makeBeneath(root: string, path: string, wanted: Wanted): Obstacle | undefined {
  const parts = path.split("/").filter((part) => part !== "");
  let folder = openHandle(root);
  try {
    for (const [index, name] of parts.entries()) {
      const isLast = index === parts.length - 1;
      const kind = isLast ? wanted.kind : "folder";
      const next = step(folder, name, { ...wanted, kind });
      if (typeof next !== "number") return { part: parts.slice(0, index + 1).join("/"), why: next };
      closeSync(folder);
      folder = next;
    }
    return undefined;
  } finally {
    closeSync(folder);
  }
}

/** A handle on `name` in the open folder; creates it when it is missing, if allowed. */
function step(folder: number, name: string, wanted: Wanted): number | Obstacle["why"] {
  const { kind, make, folderMode = FOLDER_MODE } = wanted;
  const found = look(folder, name, kind);
  if (found !== "missing" || !make) return found;
  const path = `/proc/self/fd/${folder}/${name}`;
  try {
    // Neither follows a link at the path it creates.
    if (kind === "folder") mkdirSync(path, { mode: folderMode });
    else closeSync(openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, FILE_MODE));
  } catch (error) {
    // Another process may have created it in the meantime: look again.
    if (errnoOf(error) !== "EEXIST") throw error;
  }
  return look(folder, name, kind);
}

function look(folder: number, name: string, kind: Wanted["kind"]): number | Obstacle["why"] {
  let handle: number;
  try {
    handle = openBeneath(folder, name);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return "missing";
    if (errnoOf(error) === "ELOOP") return "a link";
    throw error;
  }
  const isFolder = fstatSync(handle).isDirectory();
  if (isFolder === (kind === "folder")) return handle;
  closeSync(handle);
  return kind === "folder" ? "no folder" : "no file";
}
