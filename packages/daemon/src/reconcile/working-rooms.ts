/** The rooms that a principal works in, and is invited to before it starts. Pure. */
import { type PrincipalName, parseRoomId, principalType, type RoomId } from "@bureau/schema/refs";
import type { WantedSandbox } from "../desired/desired.ts";
import type { MachineRooms } from "../sync/machine-rooms.ts";

/** Never the config room (decision 31). */
export function workingRooms(
  account: PrincipalName,
  { spec, workspace }: Pick<WantedSandbox, "spec" | "workspace">,
  rooms: MachineRooms | undefined,
): RoomId[] {
  const ofServices =
    principalType(account) === "service" ? [rooms?.system, rooms?.fleetServices, rooms?.fleet] : [];
  const found = [...ofServices, workspace ?? roomIdOf(spec.payload?.["WORKSPACE_ROOM_ID"])];
  return [...new Set(found.filter((room) => room !== undefined && room !== rooms?.config))] as RoomId[];
}

function roomIdOf(value: unknown): RoomId | undefined {
  try {
    return typeof value === "string" ? parseRoomId(value) : undefined;
  } catch {
    return undefined;
  }
}
