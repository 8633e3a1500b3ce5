/** A kernel setting, for as long as the host runs; a file in /etc/sysctl.d keeps it. */
import { readIfPresent } from "@bureau/os/durable-file";
import * as v from "valibot";
import { mustRun, tryRun } from "../system/run-command.ts";
import { at, defineAction, defineEntry } from "./resource.ts";

const entry = defineEntry(v.object({ kind: v.literal("sysctl"), name: v.string(), at, before: v.string() }), {
  rank: 40,
  idOf: ({ name }) => name,
  describe: ({ name }) => `setting ${name}`,
  takeBack: ({ name, before }) => tryRun(["sysctl", "-q", "-w", `${name}=${before}`]),
});

const action = defineAction(v.object({ kind: v.literal("sysctl"), name: v.string(), value: v.string() }), {
  rank: 90,
  describe: ({ name, value }) => `set ${name} = ${value}`,
  record({ name }, { record }) {
    record.intend(entry, { name, before: readSetting(name) });
  },
  async apply({ name, value }) {
    await mustRun(["sysctl", "-q", "-w", `${name}=${value}`]);
  },
});

export const sysctl = { action, entry };

const readSetting = (name: string): string =>
  readIfPresent(`/proc/sys/${name.replaceAll(".", "/")}`)?.trim() ?? "";
