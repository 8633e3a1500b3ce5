/**
 * POST /rooms/{roomId}/upgrade: a new room with the previous one's settings and aliases, and a tombstone that leads from
 * the previous to the new. One transaction; the sender needs the level for m.room.tombstone.
 */
import { randomLetters } from "../auth/random-id.ts";
import { forbidden, MatrixError } from "../http/matrix-error.ts";
import { type CreateRoomDeps, createContent, roomVersions } from "./create-room.ts";
import { requireJoined } from "./event-rules.ts";
import type { JsonObject } from "./room-event.ts";
import type { RoomState } from "./room-state.ts";

/** State that is copied to the new room (Client-Server API, "Room upgrades"). */
const carried = [
  "m.room.server_acl",
  "m.room.encryption",
  "m.room.name",
  "m.room.avatar",
  "m.room.topic",
  "m.room.guest_access",
  "m.room.history_visibility",
  "m.room.join_rules",
];

/** Creates the new room and returns its ID. */
export function upgradeRoom(deps: CreateRoomDeps, roomId: string, userId: string, version: string): string {
  if (!roomVersions.some((known) => known === version)) {
    throw new MatrixError(
      400,
      "M_UNSUPPORTED_ROOM_VERSION",
      `Room version ${version.slice(0, 40)} is not supported`,
    );
  }
  const previous = deps.registry.get(roomId);
  requireJoined(previous, userId);
  const levels = previous.powerLevels();
  const [own, needed] = [levels.ofUser(userId), levels.toSend("m.room.tombstone", true)];
  if (own < needed) throw forbidden(`You need power level ${needed} to upgrade this room; you have ${own}`);
  const replacement = `!${randomLetters(18)}:${deps.accounts.serverName}`;
  return deps.db.transaction(() => {
    const body = "This room has been replaced";
    const tombstone = deps.writer.append({
      roomId,
      type: "m.room.tombstone",
      sender: userId,
      stateKey: "",
      content: { body, replacement_room: replacement },
    });
    const predecessor = { room_id: roomId, event_id: tombstone.eventId };
    makeReplacement(deps, previous, { roomId: replacement, userId, version, predecessor });
    return replacement;
  });
}

function makeReplacement(
  deps: CreateRoomDeps,
  previous: RoomState,
  to: { roomId: string; userId: string; version: string; predecessor: JsonObject },
): void {
  const { roomId, userId, version } = to;
  const before = previous.get("m.room.create", "")?.content ?? {};
  const content = { ...createContent(userId, version, before), predecessor: to.predecessor };
  const published = deps.rooms.room(previous.roomId)?.published === 1;
  deps.writer.createRoom({ roomId, version, creator: userId, published, content });
  deps.actions.join(userId, roomId, undefined);
  const send = (type: string, stateKey: string, value: JsonObject): void =>
    void deps.writer.append({ roomId, type, sender: userId, stateKey, content: value });
  // The previous levels come last, because they may forbid the copied events.
  for (const type of carried) {
    const event = previous.get(type, "");
    if (event !== undefined) send(type, "", event.content);
  }
  for (const child of previous.ofType("m.space.child")) send(child.type, child.stateKey ?? "", child.content);
  for (const banned of previous.membersWith("ban")) {
    deps.actions.setMembership({
      roomId,
      sender: userId,
      target: banned,
      membership: "ban",
      reason: undefined,
    });
  }
  moveAliases(deps, previous, roomId, userId);
  const levels = previous.get("m.room.power_levels", "")?.content;
  if (levels !== undefined) send("m.room.power_levels", "", levels);
}

function moveAliases(deps: CreateRoomDeps, previous: RoomState, replacement: string, userId: string): void {
  for (const alias of deps.rooms.aliasesOf(previous.roomId)) {
    deps.rooms.deleteAlias(alias);
    deps.rooms.insertAlias(alias, replacement, userId);
  }
  const canonical = previous.get("m.room.canonical_alias", "");
  if (canonical === undefined) return;
  deps.writer.append({
    roomId: replacement,
    type: "m.room.canonical_alias",
    sender: userId,
    stateKey: "",
    content: canonical.content,
  });
}
