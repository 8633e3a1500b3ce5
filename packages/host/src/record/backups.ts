/**
 * Copies of what a fix replaced, one folder per run: `/etc/bureau/backups/<time>/`, which only root can read, with a list
 * of where each copy belongs. `--undo` restores the last run.
 */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from "node:fs";
import { join } from "node:path";
import { writeDurably } from "@bureau/os/durable-file";
import { systemHost } from "@bureau/os/layout";
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import { look } from "../system/look.ts";
import { forRoot, readFileItself, writeNewFile } from "../system/root-files.ts";
import { type Saved, type SavedAt, SavedAtSchema } from "./saved.ts";

const ListSchema = v.object({ items: v.array(SavedAtSchema) });

export type BackupsOptions = {
  /** Names the run. */
  readonly time: Date;
  /** Copies that an uninstall will put back: they stay, however old. */
  readonly needed: readonly string[];
  /** Called before the folder of all backups is made. */
  readonly onFolder: (path: string) => void;
};

/** The backups of one run. Its folder is made with the first copy. */
export class Backups {
  readonly #dir: string;
  readonly #onFolder: (path: string) => void;
  readonly #items: SavedAt[] = [];

  constructor({ time, needed, onFolder }: BackupsOptions) {
    forgetOld(needed);
    this.#onFolder = onFolder;
    this.#dir = join(systemHost.backupsDir, time.toISOString().replaceAll(":", "-"));
  }

  /** Keeps the file or link at `path`; undefined when there is neither. Durable when it returns. */
  keep(path: string): Saved | undefined {
    const seen = look(path);
    if (seen.kind !== "file" && seen.kind !== "link") return undefined;
    const folder = this.#make(this.#dir);
    const { uid, gid } = seen;
    if (seen.kind === "link")
      return this.#add(path, {
        kind: "link",
        target: readlinkSync(path, { encoding: "utf8" }),
        uid,
        gid,
      });
    const copy = join(folder, `${this.#items.length}`);
    writeNewFile(copy, readFileItself(path), forRoot);
    return this.#add(path, { kind: "file", copy, uid, gid, mode: seen.mode });
  }

  /** Keeps a file that other tools will change. An uninstall restores it, `--undo` does not. */
  keepAside(path: string): Saved | undefined {
    const seen = look(path);
    if (seen.kind !== "file") return undefined;
    const copy = join(
      this.#make(join(systemHost.backupsDir, "accounts")),
      path.slice(1).replaceAll("/", "+"),
    );
    rmSync(copy, { force: true });
    writeNewFile(copy, readFileItself(path), forRoot);
    return { kind: "file", copy, uid: seen.uid, gid: seen.gid, mode: seen.mode };
  }

  /** Keeps a folder's owner and mode. */
  keepOwnership(path: string): void {
    const stat = lstatSync(path);
    this.#make(this.#dir);
    this.#write({ kind: "folder", path, uid: stat.uid, gid: stat.gid, mode: stat.mode & 0o7777 });
  }

  #make(dir: string): string {
    for (const path of [systemHost.backupsDir, dir])
      if (!existsSync(path)) {
        if (path === systemHost.backupsDir) this.#onFolder(path);
        mkdirSync(path, { mode: 0o700 });
        chmodSync(path, 0o700);
      }
    return dir;
  }

  #add(path: string, saved: Saved): Saved {
    this.#write({ ...saved, path });
    return saved;
  }

  #write(item: SavedAt): void {
    this.#items.push(item);
    writeDurably(join(this.#dir, LIST), `${JSON.stringify({ items: this.#items }, null, 2)}\n`, 0o600);
  }
}

const LIST = "list.json";

/** Runs whose backups are kept for `--undo`. */
const RUNS_MAX = 20;

/** Removes the oldest runs beyond {@link RUNS_MAX}, except those with a needed copy. */
function forgetOld(needed: readonly string[]): void {
  for (const name of runs(systemHost.backupsDir).slice(0, -RUNS_MAX)) {
    const dir = join(systemHost.backupsDir, name);
    if (!needed.some((copy) => copy.startsWith(`${dir}/`))) rmSync(dir, { recursive: true, force: true });
  }
}

/** Oldest first. */
const runs = (folder: string): string[] =>
  existsSync(folder)
    ? readdirSync(folder)
        .filter((entry) => existsSync(join(folder, entry, LIST)))
        .sort()
    : [];

export type BackupRun = { readonly time: string; readonly dir: string; readonly items: readonly SavedAt[] };

/** What the last fix replaced, in that order. Undefined when no fix replaced anything. */
export function lastBackups(folder: string = systemHost.backupsDir): BackupRun | undefined {
  const time = runs(folder).at(-1);
  if (time === undefined) return undefined;
  const dir = join(folder, time);
  const list = join(dir, LIST);
  return { time, dir, items: parseJson(ListSchema, readFileSync(list, "utf8"), list).items };
}
