/** A copy of a build of Bureau on the host, owned by root. Its folder's entry takes it back. */
import * as v from "valibot";
import { buildAt, installBuild, installedPath } from "../system/installed-build.ts";
import { makeParents } from "./folder.ts";
import { defineAction } from "./resource.ts";

const action = defineAction(v.object({ kind: v.literal("build"), from: v.string(), id: v.string() }), {
  rank: 70,
  describe: ({ id }) => `install the programs of build ${id}`,
  apply({ from }, { record }) {
    const build = buildAt(from);
    if (installedPath(build) !== build.path) makeParents(installedPath(build), record);
    installBuild(build);
  },
});

export const build = { action };
