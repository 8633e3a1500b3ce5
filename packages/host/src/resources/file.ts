/** A file that Bureau writes whole. */
import { writeDurably } from "@bureau/os/durable-file";
import * as v from "valibot";
import { makeParents } from "./folder.ts";
import { keepWhatIsThere, placedEntry, placedFields } from "./placed-path.ts";
import { defineAction, defineEntry } from "./resource.ts";

const entry = defineEntry(v.object({ kind: v.literal("file"), ...placedFields }), {
  ...placedEntry,
  rank: 70,
  describe: ({ path }) => `file ${path}`,
});

const action = defineAction(
  v.object({ kind: v.literal("file"), path: v.string(), text: v.string(), mode: v.number() }),
  {
    rank: 20,
    describe: ({ path }) => `write ${path}`,
    record({ path }, context) {
      context.record.intend(entry, { path, ...keepWhatIsThere(path, "write", context) });
    },
    apply({ path, text, mode }, { record }) {
      makeParents(path, record);
      writeDurably(path, text, mode);
    },
  },
);

export const file = { action, entry };
