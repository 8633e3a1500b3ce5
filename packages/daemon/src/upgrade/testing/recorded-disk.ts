/**
 * Records every change of a disk below a folder, so that a test can restore its content after a power cut at any of
 * them. File systems may leave three states at one moment: all changes, the last write by half; all names, but no
 * unsynced content; no unsynced change.
 */
import { spyOn } from "bun:test";
import * as fs from "node:fs";
import { dirname, join, relative } from "node:path";

export type Change =
  | { readonly kind: "make"; readonly path: string }
  | { readonly kind: "write"; readonly path: string; readonly bytes: Buffer }
  | { readonly kind: "sync"; readonly path: string }
  | { readonly kind: "rename"; readonly from: string; readonly path: string }
  | { readonly kind: "link"; readonly target: string; readonly path: string }
  | { readonly kind: "remove"; readonly path: string };

export const survivals = ["everything", "names", "what was synced"] as const;
export type Survival = (typeof survivals)[number];

/** The file of a name; `synced` is the part of its content that survives a power cut. */
type Thing = { content: Buffer; synced: Buffer; readonly target?: string };

/** Records changes below `folder` until disposed. Paths are relative to it. */
export function recordChanges(folder: string): Disposable & { readonly changes: readonly Change[] } {
  const changes: Change[] = [];
  const open = new Map<number, string>();
  const add = (path: unknown, make: (path: string) => Change): void => {
    const inside = typeof path === "string" && path.startsWith(`${folder}/`);
    if (inside) changes.push(make(relative(folder, path)));
  };
  const { openSync, writeSync, fsyncSync, renameSync, symlinkSync, rmSync } = { ...fs };
  const spies = [
    spyOn(fs, "openSync").mockImplementation((path, flags = "r", mode) => {
      const fd = openSync(path, flags, mode);
      open.set(fd, String(path));
      if (flags === "wx") add(path, (at) => ({ kind: "make", path: at }));
      return fd;
    }),
    spyOn(fs, "writeSync").mockImplementation(((fd: number, bytes: Uint8Array, offset = 0) => {
      const count = writeSync(fd, bytes, offset);
      const written = Buffer.from(bytes).subarray(offset, offset + count);
      add(open.get(fd), (path) => ({ kind: "write", path, bytes: written }));
      return count;
    }) as unknown as typeof fs.writeSync),
    spyOn(fs, "fsyncSync").mockImplementation((fd) => {
      fsyncSync(fd);
      add(open.get(fd), (path) => ({ kind: "sync", path }));
    }),
    spyOn(fs, "renameSync").mockImplementation((from, to) => {
      renameSync(from, to);
      add(to, (path) => ({ kind: "rename", from: relative(folder, String(from)), path }));
    }),
    spyOn(fs, "symlinkSync").mockImplementation((target, path) => {
      symlinkSync(target, path);
      add(path, (at) => ({ kind: "link", target: String(target), path: at }));
    }),
    spyOn(fs, "rmSync").mockImplementation((path, options) => {
      const was = fs.lstatSync(path, { throwIfNoEntry: false }) !== undefined;
      rmSync(path, options);
      if (was) add(path, (at) => ({ kind: "remove", path: at }));
    }),
  ];
  return {
    changes,
    [Symbol.dispose]() {
      for (const spy of spies) spy.mockRestore();
    },
  };
}

/** Changes `folder`, a copy of the first state, to the content that survives a power cut after these changes. */
export function cutPower(folder: string, changes: readonly Change[], survives: Survival): void {
  const now = new Map<string, Thing>();
  const durable = new Map<string, Thing>();
  for (const path of filesBelow(folder)) {
    const at = join(folder, path);
    const target = fs.lstatSync(at).isSymbolicLink() ? fs.readlinkSync(at) : undefined;
    const content = target === undefined ? fs.readFileSync(at) : Buffer.alloc(0);
    const thing = { content, synced: content, ...(target === undefined ? {} : { target }) };
    now.set(path, thing);
    durable.set(path, thing);
  }
  const before = [...now.keys()];
  changes.forEach((change, index) => {
    const isLast = index === changes.length - 1;
    apply(change, now, durable, isLast);
  });
  for (const path of before) fs.rmSync(join(folder, path), { force: true });
  for (const [path, { content, synced, target }] of survives === "what was synced" ? durable : now) {
    const at = join(folder, path);
    fs.mkdirSync(dirname(at), { recursive: true });
    if (target !== undefined) fs.symlinkSync(target, at);
    else fs.writeFileSync(at, survives === "everything" ? content : synced);
  }
}

function apply(change: Change, now: Map<string, Thing>, durable: Map<string, Thing>, isLast: boolean): void {
  const { path } = change;
  const thing = now.get(path);
  if (change.kind === "make") now.set(path, { content: Buffer.alloc(0), synced: Buffer.alloc(0) });
  else if (change.kind === "link")
    now.set(path, { content: Buffer.alloc(0), synced: Buffer.alloc(0), target: change.target });
  else if (change.kind === "remove") now.delete(path);
  else if (change.kind === "rename") {
    const moved = now.get(change.from);
    now.delete(change.from);
    if (moved !== undefined) now.set(path, moved);
  } else if (change.kind === "write" && thing !== undefined) {
    const { bytes } = change;
    thing.content = Buffer.concat([thing.content, isLast ? bytes.subarray(0, bytes.length / 2) : bytes]);
  } else if (change.kind === "sync" && thing !== undefined) thing.synced = thing.content;
  else if (change.kind === "sync") {
    // A folder: its current names.
    for (const name of [...durable.keys()]) if (dirname(name) === path) durable.delete(name);
    for (const [name, at] of now) if (dirname(name) === path) durable.set(name, at);
  }
}

/** Files and links; links are not followed. */
function filesBelow(folder: string, below = ""): string[] {
  return fs.readdirSync(join(folder, below), { withFileTypes: true }).flatMap((entry) => {
    const path = join(below, entry.name);
    return entry.isDirectory() ? filesBelow(folder, path) : [path];
  });
}
