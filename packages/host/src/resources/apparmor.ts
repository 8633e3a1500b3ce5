/** A loaded AppArmor profile. Its text is a file of its own. */
import * as v from "valibot";
import { mustRun, tryRun } from "../system/run-command.ts";
import { at, defineAction, defineEntry } from "./resource.ts";

const fields = { kind: v.literal("apparmor"), path: v.string() };

const entry = defineEntry(v.object({ ...fields, at }), {
  rank: 50,
  idOf: ({ path }) => path,
  describe: ({ path }) => `AppArmor profile ${path}`,
  takeBack: ({ path }) => tryRun(["apparmor_parser", "-R", path]),
});

const action = defineAction(v.object(fields), {
  rank: 100,
  describe: ({ path }) => `load the AppArmor profile ${path}`,
  record({ path }, { record }) {
    record.intend(entry, { path });
  },
  async apply({ path }) {
    await mustRun(["apparmor_parser", "-r", path]);
  },
});

export const apparmor = { action, entry };
