/** Publishing what this machine is. Labels belong to operators: they are kept, and nothing is written without need. */

import { canonicalJson } from "@bureau/kit/digest";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, type MachineInfo, MachineInfoSchema } from "@bureau/schema/events";
import { type RoomId, stateKeyOf, type UserId } from "@bureau/schema/refs";
import * as v from "valibot";
import type { HardwareFacts } from "../hardware/machine-info.ts";

const LabelsSchema = v.object({ labels: MachineInfoSchema.entries.labels });

/** Returns whether it had to be written. */
export async function publishMachineInfo(
  session: Pick<MatrixSession, "getState" | "putState">,
  room: RoomId,
  machine: UserId,
  facts: HardwareFacts,
  daemonVersion: string,
): Promise<boolean> {
  const key = stateKeyOf(machine);
  const current = await session.getState(room, eventTypes.machineInfo, key);
  const before = v.safeParse(LabelsSchema, current);
  const labels = before.success ? before.output.labels : undefined;
  const next: MachineInfo = {
    principal: machine,
    ...facts,
    ...(labels === undefined ? {} : { labels }),
    daemon_version: daemonVersion,
  };
  if (canonicalJson(current) === canonicalJson(next)) return false;
  await session.putState(room, eventTypes.machineInfo, key, next);
  return true;
}
