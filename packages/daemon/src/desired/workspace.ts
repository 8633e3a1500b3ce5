/** The workspace's room that a payload names (wire facts, section 3.9); undefined when it names none. */
import { parseRoomId, type RoomId } from "@bureau/schema/refs";

export function workspaceNamedBy(payload: Readonly<Record<string, unknown>> = {}): RoomId | undefined {
  const value = payload["WORKSPACE_ROOM_ID"];
  try {
    return typeof value === "string" ? parseRoomId(value) : undefined;
  } catch {
    return undefined;
  }
}
