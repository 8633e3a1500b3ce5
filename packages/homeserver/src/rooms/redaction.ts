/** Which keys of an event survive a redaction (the redaction algorithm of room versions 10 and 11). */
import type { Json, JsonObject } from "./room-event.ts";

const kept: Record<string, readonly string[]> = {
  "m.room.member": ["membership", "join_authorised_via_users_server"],
  "m.room.join_rules": ["join_rule", "allow"],
  "m.room.history_visibility": ["history_visibility"],
  "m.room.redaction": ["redacts"],
};
const powerLevelKeys = [
  "ban",
  "events",
  "events_default",
  "kick",
  "redact",
  "state_default",
  "users",
  "users_default",
];

/** The remaining content. Version 11 also keeps all of the create event, and `invite` of the power levels. */
export function redactedContent(type: string, content: JsonObject, roomVersion: string): JsonObject {
  const isV11 = roomVersion !== "10";
  if (type === "m.room.create") return isV11 ? content : pick(content, ["creator"]);
  if (type === "m.room.power_levels")
    return pick(content, isV11 ? [...powerLevelKeys, "invite"] : powerLevelKeys);
  if (type === "m.room.redaction" && !isV11) return {};
  return pick(content, kept[type] ?? []);
}

function pick(content: JsonObject, keys: readonly string[]): JsonObject {
  const left: Record<string, Json> = {};
  for (const key of keys) {
    const value = Object.hasOwn(content, key) ? content[key] : undefined;
    if (value !== undefined) left[key] = value;
  }
  return left;
}
