/** The host's setting of its clock by the network. */
import * as v from "valibot";
import { mustRun, tryRun } from "../system/run-command.ts";
import { at, defineAction, defineEntry } from "./resource.ts";

const entry = defineEntry(v.object({ kind: v.literal("ntp"), at }), {
  rank: 30,
  idOf: () => "",
  describe: () => "clock set by the network",
  takeBack: () => tryRun(["timedatectl", "set-ntp", "false"]),
});

const action = defineAction(v.object({ kind: v.literal("ntp") }), {
  rank: 200,
  describe: () => "let the host set its clock by the network (timedatectl set-ntp true)",
  record(_, { record }) {
    record.intend(entry, {});
  },
  async apply() {
    await mustRun(["timedatectl", "set-ntp", "true"]);
  },
});

export const ntp = { action, entry };
