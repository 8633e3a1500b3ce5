/**
 * Copies of what a fix replaced, one folder a run: `/etc/bureau/backups/<time>/`, root's alone, with a list of where
 * each copy belongs. `--undo` puts the last run's back.
 */
import {
  chmodSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { replaceWith, writeDurably } from "@bureau/os/durable-file";
import { systemHost } from "@bureau/os/layout";
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import { look } from "../system/look.ts";
import { forRoot, readFileItself, replaceFile, setOwnership, writeNewFile } from "../system/root-files.ts";
import type { InstallRecord, Saved } from "./install-record.ts";

const ItemSchema = v.variant("kind", [
  v.object({
    kind: v.literal("file"),
    path: v.string(),
    copy: v.string(),
    uid: v.number(),
    gid: v.number(),
    mode: v.number(),
  }),
  v.object({
    kind: v.literal("link"),
    path: v.string(),
    target: v.string(),
    uid: v.number(),
    gid: v.number(),
  }),
  v.object({
    kind: v.literal("folder"),
    path: v.string(),
    uid: v.number(),
    gid: v.number(),
    mode: v.number(),
  }),
]);
type Item = v.InferOutput<typeof ItemSchema>;
const ListSchema = v.object({ items: v.array(ItemSchema) });

/** The backups of one run; its folder is made when the first thing is kept. */
export class Backups {
  readonly #record: InstallRecord;
  readonly #dir: string;
  readonly #items: Item[] = [];

  constructor(record: InstallRecord, time: Date) {
    this.#record = record;
    forgetOld(record);
    this.#dir = join(systemHost.backupsDir, time.toISOString().replaceAll(":", "-"));
  }

  /** Keeps what stands at `path`, if anything that can be kept does. Durable when it returns. */
  keep(path: string): Saved | undefined {
    const seen = look(path);
    if (seen.kind === "file") {
      const copy = join(this.#folder(), `${this.#items.length}`);
      writeNewFile(copy, readFileItself(path), forRoot);
      const saved = { kind: "file", copy, uid: seen.uid, gid: seen.gid, mode: seen.mode } as const;
      this.#add({ ...saved, path });
      return saved;
    }
    if (seen.kind !== "link") return undefined;
    this.#folder();
    const saved = {
      kind: "link",
      target: readlinkSync(path, { encoding: "utf8" }),
      uid: seen.uid,
      gid: seen.gid,
    } as const;
    this.#add({ ...saved, path });
    return saved;
  }

  /** Keeps a file that other tools will change; it is for the uninstall, and no part of what `--undo` puts back. */
  keepAside(path: string): Saved | undefined {
    const seen = look(path);
    if (seen.kind !== "file") return undefined;
    const copy = join(this.#aside(), path.slice(1).replaceAll("/", "+"));
    rmSync(copy, { force: true });
    writeNewFile(copy, readFileItself(path), forRoot);
    return { kind: "file", copy, uid: seen.uid, gid: seen.gid, mode: seen.mode };
  }

  /** Keeps a folder's owner and mode. */
  keepOwnership(path: string): void {
    const stat = lstatSync(path);
    this.#folder();
    this.#add({ kind: "folder", path, uid: stat.uid, gid: stat.gid, mode: stat.mode & 0o7777 });
  }

  #folder(): string {
    return this.#make(this.#dir);
  }

  #aside(): string {
    return this.#make(join(systemHost.backupsDir, "accounts"));
  }

  #make(dir: string): string {
    for (const path of [systemHost.backupsDir, dir])
      if (!existsSync(path)) {
        if (path === systemHost.backupsDir) this.#record.intend({ kind: "folder", path });
        mkdirSync(path, { mode: 0o700 });
        chmodSync(path, 0o700);
      }
    return dir;
  }

  #add(item: Item): void {
    this.#items.push(item);
    writeDurably(join(this.#dir, "list.json"), `${JSON.stringify({ items: this.#items }, null, 2)}\n`, 0o600);
  }
}

/** Runs whose backups are kept for `--undo`. */
const RUNS_MAX = 20;

/** Removes the oldest runs beyond those kept, but never what an uninstall will put back. */
function forgetOld(record: InstallRecord): void {
  const needed = record.entries.flatMap((entry) =>
    "before" in entry && typeof entry.before === "object" && "copy" in entry.before
      ? [entry.before.copy]
      : [],
  );
  for (const name of runs().slice(0, -RUNS_MAX)) {
    const dir = join(systemHost.backupsDir, name);
    if (!needed.some((copy) => copy.startsWith(`${dir}/`))) rmSync(dir, { recursive: true, force: true });
  }
}

/** Oldest first. */
const runs = (): string[] =>
  existsSync(systemHost.backupsDir)
    ? readdirSync(systemHost.backupsDir)
        .filter((entry) => existsSync(join(systemHost.backupsDir, entry, "list.json")))
        .sort()
    : [];

/** Puts back what stood at `path`; durable when it returns. */
export function restore(path: string, saved: Saved): void {
  if (saved.kind === "file") replaceFile(path, readFileSync(saved.copy), saved);
  else
    replaceWith(path, (temporary) => {
      symlinkSync(saved.target, temporary);
      lchownSync(temporary, saved.uid, saved.gid);
    });
}

export type Undone = {
  readonly time: string;
  readonly restored: readonly string[];
  /** What has no place any more, or no copy. */
  readonly skipped: readonly { readonly path: string; readonly why: string }[];
};

/** What the last fix replaced. Undefined when none replaced anything. */
export function lastBackups(): { readonly time: string; readonly paths: readonly string[] } | undefined {
  const last = lastRun();
  return last === undefined
    ? undefined
    : { time: last.name, paths: readList(last.dir).map(({ path }) => path) };
}

/**
 * Puts back what the last fix replaced, last thing first, and forgets that run. What cannot be put back is passed over,
 * so that the runs before stay within reach. @throws BureauError `not-found`
 */
export function undoLast(record: InstallRecord): Undone {
  const last = lastRun();
  if (last === undefined)
    throw new BureauError("not-found", "There is nothing to undo: no fix has replaced anything");
  const restored: string[] = [];
  const skipped: { path: string; why: string }[] = [];
  for (const item of readList(last.dir).reverse()) {
    const why = whyNotRestored(item);
    if (why !== undefined) {
      skipped.push({ path: item.path, why });
      continue;
    }
    if (item.kind === "folder") setOwnership(item.path, item);
    else restore(item.path, item);
    forgetRestored(record, item);
    restored.push(item.path);
  }
  rmSync(last.dir, { recursive: true, force: true });
  return { time: last.name, restored, skipped };
}

/** Undefined when a kept thing can be put back. */
export function whyNotRestored(item: Item): string | undefined {
  const now = look(item.path).kind;
  if (item.kind === "folder")
    return now === "folder" ? undefined : now === "absent" ? "it is gone" : "it is no folder any more";
  if (now === "folder") return "a folder has taken its place";
  if (!isFolder(dirname(item.path))) return `the folder "${dirname(item.path)}" is gone`;
  return item.kind === "file" && look(item.copy).kind === "absent" ? "its copy is gone" : undefined;
}

/** Also a link that leads to one. */
const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/** What was there before Bureau came, and stands there again, is not ours any more. */
function forgetRestored(record: InstallRecord, item: Item): void {
  if (item.kind === "folder") return;
  const entry = record.find({ kind: "file", path: item.path });
  if (entry?.kind !== "file" && entry?.kind !== "link") return;
  const { before } = entry;
  if (before === undefined) return;
  const isOriginal = item.kind === "link" || (before.kind === "file" && before.copy === item.copy);
  if (isOriginal) record.forget(entry);
}

function lastRun(): { readonly name: string; readonly dir: string } | undefined {
  const name = runs().at(-1);
  return name === undefined ? undefined : { name, dir: join(systemHost.backupsDir, name) };
}

const readList = (dir: string): Item[] =>
  parseJson(ListSchema, readFileSync(join(dir, "list.json"), "utf8"), join(dir, "list.json")).items;
