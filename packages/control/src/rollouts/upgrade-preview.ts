/** What an upgrade of one machine would change, computed before it is requested. Pure. */
import type { MachineVersion } from "@bureau/schema/events";
import { nameOf, runsAlready, type UpgradeTarget, versionName } from "./upgrade-target.ts";

export type ProgramChange = {
  readonly program: string;
  readonly from: string;
  readonly to: string;
  /**
   * `in-place`: the running program executes the new one, in the same process. `new-sandboxes`: sandboxes that start from
   * then on use it. `next-start`: used when a person or a program starts it.
   */
  readonly effect: "in-place" | "new-sandboxes" | "next-start";
};

export type UpgradePreview = {
  readonly machine: string;
  readonly from?: string;
  readonly to: string;
  /** `unknown`: the machine has not reported its build, or the build cannot be read from here. */
  readonly changes: readonly ProgramChange[] | "unknown";
  /** The principals that run there now. An upgrade restarts none of them. */
  readonly principals: readonly string[];
};

const effects: Readonly<Record<string, ProgramChange["effect"]>> = {
  "bureau-daemon": "in-place",
  "bureau-launcher": "in-place",
  "bureau-proxy": "new-sandboxes",
  "bureau-log-relay": "new-sandboxes",
};

export function previewUpgrade(
  machine: string,
  target: UpgradeTarget,
  running: MachineVersion | undefined,
  principals: readonly string[],
): UpgradePreview {
  const from =
    running && `${versionName(running.version, running.programs)} (${running.host_environment_path})`;
  return {
    machine,
    ...(from === undefined ? {} : { from }),
    to: target.version === undefined ? target.path : `${nameOf(target)} (${target.path})`,
    changes: changesOf(target, running),
    principals,
  };
}

function changesOf(
  { path, programs }: UpgradeTarget,
  running: MachineVersion | undefined,
): readonly ProgramChange[] | "unknown" {
  if (running === undefined) return "unknown";
  const changes = Object.entries(running.programs).flatMap(([program, from]) => {
    const to = programs?.[program];
    if (to === undefined || to === from) return [];
    return [{ program, from, to, effect: effects[program] ?? "next-start" }];
  });
  // At another path the runtime may differ though no program does.
  return changes.length > 0 || runsAlready({ path }, running) ? changes : "unknown";
}
