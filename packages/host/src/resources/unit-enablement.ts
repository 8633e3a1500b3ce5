/** A unit that starts at boot. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { syncPath } from "@bureau/os/durable-file";
import { systemHost } from "@bureau/os/layout";
import * as v from "valibot";
import { look } from "../system/look.ts";
import { mustRun, tryRun } from "../system/run-command.ts";
import { at, defineAction, defineEntry } from "./resource.ts";

const entry = defineEntry(v.object({ kind: v.literal("enabled"), unit: v.string(), at }), {
  rank: 10,
  idOf: ({ unit }) => unit,
  describe: ({ unit }) => `enabled unit ${unit}`,
  takeBack: ({ unit }) => disable(unit),
});

const action = defineAction(v.object({ kind: v.literal("enable"), unit: v.string() }), {
  rank: 160,
  describe: ({ unit }) => `enable ${unit}`,
  record({ unit }, { record }) {
    record.intend(entry, { unit });
  },
  async apply({ unit }) {
    await mustRun(["systemctl", "--quiet", "unmask", unit]);
    await mustRun(["systemctl", "--quiet", "enable", unit]);
  },
});

export const unitEnablement = { action, entry };

/** Durable when it returns: the links in systemd's folders are gone. */
async function disable(unit: string): Promise<void> {
  const command = ["systemctl", "--quiet", "disable", unit];
  // systemctl fails for a unit without a file, and there is nothing to disable then.
  await (look(join(systemHost.unitDir, unit)).kind === "file" ? mustRun(command) : tryRun(command));
  syncPath(systemHost.unitDir);
  for (const name of readdirSync(systemHost.unitDir)) {
    const path = join(systemHost.unitDir, name);
    if (name.endsWith(".wants") && look(path).kind === "folder") syncPath(path);
  }
}
