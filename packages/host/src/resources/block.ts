/**
 * Lines of ours in a file that others write too. They are between two marks, so only they are replaced and removed.
 */
import { chownSync } from "node:fs";
import { BureauError } from "@bureau/kit/errors";
import { readIfPresent, removeDurably, removeTemporaries, writeDurably } from "@bureau/os/durable-file";
import * as v from "valibot";
import { withBlock } from "../system/block-text.ts";
import { look } from "../system/look.ts";
import { forgetNixConfig } from "../system/nix-host.ts";
import { makeParents } from "./folder.ts";
import { at, defineAction, defineEntry } from "./resource.ts";

const entry = defineEntry(
  v.object({
    kind: v.literal("block"),
    path: v.string(),
    at,
    /** Bureau made the file. */
    made: v.boolean(),
  }),
  {
    rank: 60,
    idOf: ({ path }) => path,
    describe: ({ path }) => `lines in ${path}`,
    freedPath: ({ path, made }) => (made ? path : undefined),
    async takeBack({ path, made }) {
      removeTemporaries(path);
      removeBlock(path, made);
      await forgetNixConfig(path);
    },
  },
);

const action = defineAction(
  v.object({ kind: v.literal("block"), path: v.string(), lines: v.pipe(v.array(v.string()), v.readonly()) }),
  {
    rank: 30,
    describe: ({ path, lines }) => `add to ${path}: ${lines.join("; ")}`,
    record({ path }, { record, backups }) {
      const { kind } = look(path);
      if (kind !== "file" && kind !== "absent")
        throw new BureauError("conflict", `Cannot add lines to "${path}": it is a ${kind}`);
      if (kind === "file") backups.keep(path);
      record.intend(entry, { path, made: kind === "absent" });
    },
    apply({ path, lines }, { record }) {
      makeParents(path, record);
      writeBlock(path, lines);
    },
  },
);

export const block = { action, entry };

/** Owner and mode stay. */
function writeBlock(path: string, lines: readonly string[]): void {
  const seen = look(path);
  writeDurably(path, withBlock(readIfPresent(path) ?? "", lines), seen.kind === "file" ? seen.mode : 0o644);
  if (seen.kind === "file") chownSync(path, seen.uid, seen.gid);
}

/** Removes our lines, and a file that was `made` for them unless it holds others by now. */
function removeBlock(path: string, made: boolean): void {
  if (look(path).kind !== "file") return;
  if (made && withBlock(readIfPresent(path) ?? "", []) === "") removeDurably(path);
  else writeBlock(path, []);
}
