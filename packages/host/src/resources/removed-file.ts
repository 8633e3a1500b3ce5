/** A file that is removed: the session of a machine that joins again. */
import { removeDurably } from "@bureau/os/durable-file";
import * as v from "valibot";
import { defineAction } from "./resource.ts";

const action = defineAction(v.object({ kind: v.literal("remove"), path: v.string() }), {
  rank: 130,
  attemptsMax: 1,
  describe: ({ path }) => `remove ${path}`,
  apply: ({ path }) => removeDurably(path),
});

export const removedFile = { action };
