/** The build that a machine runs, and its history of upgrades, as text for people. */
import { versionName } from "@bureau/control/rollouts/upgrade-target";
import { withAge } from "@bureau/kit/age";
import { systemClock } from "@bureau/kit/clock";
import type { BureauVersion, MachineVersion } from "@bureau/schema/events";
import type { Terminal } from "../command/terminal.ts";
import { asTyped } from "../command/typed-command.ts";

const LABEL_WIDTH = 18;

export function printVersion(
  terminal: Terminal,
  version: MachineVersion,
  desired: BureauVersion | undefined,
): void {
  const line = (name: string, value: string): void => terminal.print(`${name.padEnd(LABEL_WIDTH)}${value}`);
  line("version", versionName(version.version, version.programs));
  line("environment", version.host_environment_path);
  line("upgrade", stateOf(version));
  if (version.previous_host_environment_path !== undefined)
    line("previous", version.previous_host_environment_path);
  const wanted = desired?.host_environment_path;
  if (wanted !== undefined && wanted !== version.host_environment_path) line("asked for", wanted);
  if (version.history.length === 0) return;
  const now = systemClock.now();
  terminal.print("");
  terminal.table(
    ["VERSION", "ENVIRONMENT", "FINISHED", "BY", "OUTCOME", "SECONDS", "REASON"],
    version.history.map((entry) => [
      entry.version ?? "",
      entry.host_environment_path,
      withAge(entry.finished_at, now),
      entry.requested_by ?? "",
      entry.outcome,
      (entry.duration_ms / 1_000).toFixed(1),
      asTyped(entry.reason ?? ""),
    ]),
  );
}

function stateOf({ state, step, reason }: MachineVersion): string {
  if (state === "upgrading") return `in progress: ${step ?? "requested"}`;
  if (state === "failed")
    return `the last request failed${reason === undefined ? "" : `: ${asTyped(reason)}`}`;
  return "none in progress";
}
