/** The build that a person asked for, and what an upgrade to it would do, on one machine or many. */
import type { ConfigPlace } from "@bureau/control/machines/config-parts";
import { readAssignments } from "@bureau/control/machines/machine-config";
import { previewUpgrade, type UpgradePreview } from "@bureau/control/rollouts/upgrade-preview";
import { assumeTarget, type UpgradeTarget } from "@bureau/control/rollouts/upgrade-target";
import type { MatrixSession } from "@bureau/matrix/session";
import type { MachineVersion } from "@bureau/schema/events";
import { type MachineLocalpart, principalOfUser } from "@bureau/schema/refs";
import { readTarget, requireReachable } from "../machine/local-build.ts";
import type { BuildValues } from "./rollout-flags.ts";

/** Long enough for a slow prefetch; a machine that fails rolls back long before. */
export const TIMEOUT_DEFAULT = "5m";

/** The build at `--host-env`; read here unless it is on the machine only. */
export function requestedTarget(flags: BuildValues, elsewhere: readonly string[]): UpgradeTarget {
  const typed = flags["host-env"] ?? "";
  if (flags["on-machine"]) return assumeTarget(typed);
  const target = readTarget(typed);
  requireReachable(target, elsewhere);
  return target;
}

export type One = {
  readonly session: MatrixSession;
  readonly machine: MachineLocalpart;
  readonly place: ConfigPlace;
  readonly running: MachineVersion | undefined;
  readonly target: UpgradeTarget;
};

export async function previewOne(one: One): Promise<UpgradePreview> {
  const { assignments } = await readAssignments(one.session, one.place);
  const principals = assignments.map(({ principal }) => principalOfUser(principal));
  return previewUpgrade(one.machine, one.target, one.running, principals);
}
