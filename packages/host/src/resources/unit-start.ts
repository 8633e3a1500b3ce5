/** A unit that runs. */
import * as v from "valibot";
import { runCommand } from "../system/run-command.ts";
import { startUnit } from "../system/start-unit.ts";
import { defineAction } from "./resource.ts";
import { isRestartOf } from "./unit-restart.ts";

const action = defineAction(v.object({ kind: v.literal("start"), unit: v.string() }), {
  rank: 190,
  startsPrograms: true,
  describe: ({ unit }) => `start ${unit}`,
  isCovered: ({ unit }, plan) => plan.some((other) => isRestartOf(other, unit)),
  async apply({ unit }) {
    // systemd refuses to start a unit that failed too often.
    await runCommand(["systemctl", "reset-failed", unit]);
    await startUnit(unit);
  },
});

export const unitStart = { action };
