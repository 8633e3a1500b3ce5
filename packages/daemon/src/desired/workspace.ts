/** The workspace's room that a payload names (wire facts, section 3.9); undefined when it names none. */
import { parseRoomId, type RoomId } from "@bureau/schema/refs";

type Payload = Readonly<Record<string, unknown>>;

const KEY = "WORKSPACE_ROOM_ID";

export function workspaceNamedBy(
  payload: Payload = {},
  /** What the template has for keys that the payload leaves out. */
  defaults: Payload = {},
): RoomId | undefined {
  const value = Object.hasOwn(payload, KEY) ? payload[KEY] : defaults[KEY];
  try {
    return typeof value === "string" ? parseRoomId(value) : undefined;
  } catch {
    return undefined;
  }
}
