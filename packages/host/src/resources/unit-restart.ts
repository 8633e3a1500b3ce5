/** A unit that runs from its new text, its new build, or on a new socket. Agents live through it. */
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { waitFor } from "@bureau/kit/wait-for";
import { unitStates } from "@bureau/os/systemctl";
import { launcherUnit } from "@bureau/os/unit-names";
import * as v from "valibot";
import { mustRun, runCommand } from "../system/run-command.ts";
import { STOP_OR_START, startUnit } from "../system/start-unit.ts";
import { type ActionBase, defineAction } from "./resource.ts";

const schema = v.object({ kind: v.literal("restart"), unit: v.string() });

const action = defineAction(schema, {
  rank: 180,
  startsPrograms: true,
  describe: ({ unit }) => `restart ${unit}`,
  apply: ({ unit }) => restart(unit),
});

export const unitRestart = { action };

export const isRestartOf = (other: ActionBase, unit: string): boolean =>
  v.is(schema, other) && other.unit === unit;

/**
 * systemd opens a socket again only while its service does not run. The launcher is killed, not stopped, because a launcher
 * that is told to stop ends every sandbox first; the next launcher takes them over.
 */
async function restart(unit: string): Promise<void> {
  const service = unit.replace(/\.socket$/, ".service");
  await runCommand(["systemctl", "reset-failed", unit, service]);
  for (let attempt = 1; ; attempt++) {
    if (service === launcherUnit) await killLauncher();
    else await mustRun(["systemctl", "stop", service], STOP_OR_START);
    if (service === unit) break;
    const ran = await runCommand(["systemctl", "restart", unit], STOP_OR_START);
    if (ran.code === 0) break;
    // systemd was faster and started the launcher on the old socket.
    if (attempt === SOCKET_ATTEMPTS_MAX)
      throw new BureauError("failed", `Cannot restart "${unit}": ${ran.stderr.trim()}`);
  }
  await startUnit(service);
}

/** systemd waits for a moment before it starts a service again; one attempt falls into that moment. */
const SOCKET_ATTEMPTS_MAX = 5;

/** systemd notes the end of a killed process a moment later. */
const GONE_MS_MAX = 5_000;

async function killLauncher(): Promise<void> {
  const kill = ["systemctl", "kill", "--kill-whom=main", "--signal=SIGKILL", launcherUnit];
  if ((await runCommand(kill)).code !== 0) return;
  await waitFor(
    async () =>
      (await unitStates([launcherUnit])).get(launcherUnit)?.active === "active" ? undefined : true,
    { timeoutMs: GONE_MS_MAX, clock: systemClock },
  );
}
