/** Publishing what this machine is. Labels belong to operators: they are kept, and nothing is written without need. */
import { editMachineInfo } from "@bureau/matrix/machine-info";
import type { MatrixSession } from "@bureau/matrix/session";
import { type MachineInfo, MachineInfoSchema } from "@bureau/schema/events";
import type { RoomId, UserId } from "@bureau/schema/refs";
import type { HardwareFacts } from "../hardware/machine-info.ts";

/** What it no longer has, a swap or a GPU, goes. */
const ownFields = Object.keys(MachineInfoSchema.entries).filter((name) => name !== "labels");

/** Returns whether it had to be written. */
export async function publishMachineInfo(
  session: MatrixSession,
  room: RoomId,
  machine: UserId,
  facts: HardwareFacts,
  daemonVersion: string,
): Promise<boolean> {
  const own: MachineInfo = { principal: machine, ...facts, daemon_version: daemonVersion };
  const values = new Map<string, unknown>(Object.entries(own));
  const fields = new Map(ownFields.map((name) => [name, values.get(name)]));
  const { written } = await editMachineInfo(session, room, machine, { fields });
  return written;
}
