/** The rooms that a principal works in, and is invited to before it starts. Pure. */
import { type PrincipalName, principalType, type RoomId } from "@bureau/schema/refs";
import type { WantedSandbox } from "../desired/desired.ts";
import { workspaceNamedBy } from "../desired/workspace.ts";
import type { MachineRooms } from "../sync/machine-rooms.ts";

/** Never the config room (decision 31). */
export function workingRooms(
  account: PrincipalName,
  { spec, workspace }: Pick<WantedSandbox, "spec" | "workspace">,
  rooms: MachineRooms | undefined,
): RoomId[] {
  const ofServices =
    principalType(account) === "service" ? [rooms?.system, rooms?.fleetServices, rooms?.fleet] : [];
  const found = [...ofServices, workspace ?? workspaceNamedBy(spec.payload)];
  return [...new Set(found.filter((room) => room !== undefined && room !== rooms?.config))] as RoomId[];
}
