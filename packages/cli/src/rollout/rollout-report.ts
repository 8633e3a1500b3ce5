/** A rollout in words, in a table, and as JSON. */
import { versionName } from "@bureau/control/rollouts/upgrade-target";
import type { Rollout, RolloutMachine } from "@bureau/schema/rollout";
import type { Terminal } from "../command/terminal.ts";
import { asTyped } from "../command/typed-command.ts";

/** `3 of 12 succeeded, 2 upgrading, 1 failed`. */
export function countsOf({ machines }: Rollout): string {
  const of = (state: string): number => machines.filter((one) => one.state === state).length;
  const others = ["upgrading", "failed", "skipped", "rolling-back", "rolled-back"] as const;
  const rest = others.filter((state) => of(state) > 0).map((state) => `${of(state)} ${state}`);
  return [`${of("succeeded")} of ${machines.length} succeeded`, ...rest].join(", ");
}

/** The build of a rollout, named as in the list of machines. */
export const versionOf = ({ version, programs, host_environment_path: path }: Rollout): string =>
  version === undefined || programs === undefined ? path : versionName(version, programs);

/** A machine's name within its fleet. */
export const shortName = (machine: string): string => machine.split("/").slice(4).join("/");

/** The outcome of one machine, in one line. */
export function outcomeOf({ machine, state, reason, asked_at, finished_at }: RolloutMachine): string {
  const seconds = secondsOf(asked_at, finished_at);
  const took = seconds === "" ? "" : ` (${seconds} s)`;
  return `${shortName(machine)} ${state}${took}${reason === undefined ? "" : `: ${asTyped(reason)}`}`;
}

export const rolloutJson = (id: string, rollout: Rollout): Record<string, unknown> => ({ id, ...rollout });

export function printRollout(terminal: Terminal, rollout: Rollout): void {
  terminal.table(
    ["MACHINE", "STATE", "ATTEMPT", "SECONDS", "REASON"],
    rollout.machines.map((one) => [
      one.machine,
      one.state,
      String(one.attempt),
      secondsOf(one.asked_at, one.finished_at),
      asTyped(one.reason ?? ""),
    ]),
  );
}

function secondsOf(from: string | undefined, to: string | undefined): string {
  if (from === undefined || to === undefined) return "";
  return ((Date.parse(to) - Date.parse(from)) / 1_000).toFixed(1);
}
