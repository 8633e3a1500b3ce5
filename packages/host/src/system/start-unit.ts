/** Starts a unit without waiting for its service. */
import { unitStates } from "@bureau/os/systemctl";
import { mustRun } from "./run-command.ts";

/** Longer than a unit's own limit on stopping. */
export const STOP_OR_START = { timeoutMs: 120_000 };

/**
 * The start of a service that fails again and again never ends, so the doctor looks afterwards whether it runs. systemd
 * starts a service that waits for its next attempt only when told to restart it (service_start()).
 */
export async function startUnit(unit: string): Promise<void> {
  if (!unit.endsWith(".service")) return void (await mustRun(["systemctl", "start", unit], STOP_OR_START));
  const state = (await unitStates([unit])).get(unit);
  const verb = state?.sub === "auto-restart" ? "restart" : "start";
  await mustRun(["systemctl", verb, "--no-block", unit], STOP_OR_START);
}
