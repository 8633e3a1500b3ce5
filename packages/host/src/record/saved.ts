/** What stood at a path before Bureau changed it: kept in the backups, and put back by an undo or an uninstall. */
import { lchownSync, readFileSync, statSync, symlinkSync } from "node:fs";
import { dirname } from "node:path";
import { replaceWith } from "@bureau/os/durable-file";
import * as v from "valibot";
import { look } from "../system/look.ts";
import { replaceFile, setOwnership } from "../system/root-files.ts";

const ids = { uid: v.number(), gid: v.number() };
const file = { kind: v.literal("file"), copy: v.string(), ...ids, mode: v.number() };
const link = { kind: v.literal("link"), target: v.string(), ...ids };
const path = v.string();

export const SavedSchema = v.variant("kind", [v.object(file), v.object(link)]);
/** A file, whose copy is in the backups, or a link. */
export type Saved = v.InferOutput<typeof SavedSchema>;

export const SavedAtSchema = v.variant("kind", [
  v.object({ ...file, path }),
  v.object({ ...link, path }),
  v.object({ kind: v.literal("folder"), path, ...ids, mode: v.number() }),
]);
/** With its place. Of a folder only owner and mode are kept. */
export type SavedAt = v.InferOutput<typeof SavedAtSchema>;

/** Why it cannot be put back; undefined when it can. */
export function whyNotRestored(saved: SavedAt): string | undefined {
  const now = look(saved.path).kind;
  if (saved.kind === "folder")
    return now === "folder" ? undefined : now === "absent" ? "it is gone" : "it is no longer a folder";
  if (now === "folder") return "a folder has taken its place";
  if (!isFolder(dirname(saved.path))) return `the folder "${dirname(saved.path)}" is gone`;
  return saved.kind === "file" && look(saved.copy).kind === "absent" ? "its copy is gone" : undefined;
}

/** Also a link to one. */
const isFolder = (at: string): boolean => statSync(at, { throwIfNoEntry: false })?.isDirectory() === true;

/** Puts it back; durable when it returns. */
export function restore(saved: SavedAt): void {
  if (saved.kind === "folder") setOwnership(saved.path, saved);
  else if (saved.kind === "file") replaceFile(saved.path, readFileSync(saved.copy), saved);
  else
    replaceWith(saved.path, (temporary) => {
      symlinkSync(saved.target, temporary);
      lchownSync(temporary, saved.uid, saved.gid);
    });
}
