/**
 * POST /createRoom: the events of a new room in the order that the Client-Server API gives, in one transaction, each
 * authorized like any other. A failure (an alias in use, a forbidden state event) leaves no room behind.
 */
import * as v from "valibot";
import { randomLetters } from "../auth/random-id.ts";
import { invalidParam, MatrixError } from "../http/matrix-error.ts";
import type { Aliases } from "./aliases.ts";
import type { RoomActions, RoomActionsDeps } from "./room-actions.ts";
import { isJsonObject, type JsonObject } from "./room-event.ts";

const jsonObject = v.custom<JsonObject>(isJsonObject, "must be an object");

export const createRoomSchema = v.object({
  visibility: v.optional(v.picklist(["public", "private"])),
  room_alias_name: v.optional(v.nullable(v.string())),
  name: v.optional(v.nullable(v.string())),
  topic: v.optional(v.nullable(v.string())),
  invite: v.optional(v.array(v.string())),
  room_version: v.optional(v.string()),
  creation_content: v.optional(jsonObject),
  initial_state: v.optional(
    v.array(v.object({ type: v.string(), state_key: v.optional(v.string(), ""), content: jsonObject })),
  ),
  preset: v.optional(v.picklist(["private_chat", "public_chat", "trusted_private_chat"])),
  is_direct: v.optional(v.boolean()),
  power_level_content_override: v.optional(jsonObject),
});
export type CreateRoomRequest = v.InferOutput<typeof createRoomSchema>;
type Preset = NonNullable<CreateRoomRequest["preset"]>;

/** Room versions this server supports, the default first. */
export const roomVersions = ["11", "10"] as const;
/** Maximum people invited by one request. */
const INVITES_MAX = 200;
const INITIAL_STATE_MAX = 1_000;

const presets: Record<Preset, { joinRule: string; guestAccess: string }> = {
  private_chat: { joinRule: "invite", guestAccess: "can_join" },
  trusted_private_chat: { joinRule: "invite", guestAccess: "can_join" },
  public_chat: { joinRule: "public", guestAccess: "forbidden" },
};

export type CreateRoomDeps = RoomActionsDeps & { readonly actions: RoomActions; readonly aliases: Aliases };
type Send = (type: string, stateKey: string, content: JsonObject) => void;

/** Creates the room and returns its ID. */
export function createRoom(deps: CreateRoomDeps, creator: string, request: CreateRoomRequest): string {
  const version = request.room_version ?? roomVersions[0];
  if (!roomVersions.some((known) => known === version)) {
    throw new MatrixError(
      400,
      "M_UNSUPPORTED_ROOM_VERSION",
      `Room version ${version.slice(0, 40)} is not supported`,
    );
  }
  if ((request.invite?.length ?? 0) > INVITES_MAX)
    throw invalidParam(`More than ${INVITES_MAX} invites in one request`);
  if ((request.initial_state?.length ?? 0) > INITIAL_STATE_MAX)
    throw invalidParam(`More than ${INITIAL_STATE_MAX} initial state events`);
  const roomId = `!${randomLetters(18)}:${deps.accounts.serverName}`;
  const alias =
    request.room_alias_name == null ? undefined : deps.aliases.fromLocalpart(request.room_alias_name);
  return deps.db.transaction(() => {
    deps.writer.createRoom({
      roomId,
      version,
      creator,
      published: request.visibility === "public",
      content: createContent(creator, version, request.creation_content),
    });
    deps.actions.join(creator, roomId, undefined);
    const send: Send = (type, stateKey, content) =>
      void deps.writer.append({ roomId, type, sender: creator, stateKey, content });
    sendState(send, deps, { roomId, creator, alias }, request);
    for (const userId of request.invite ?? []) {
      deps.actions.invite(roomId, creator, userId, undefined, request.is_direct ?? false);
    }
    return roomId;
  });
}

/** The content of a create event. */
export function createContent(creator: string, version: string, given: JsonObject = {}): JsonObject {
  const { creator: _creator, ...rest } = given;
  return { ...rest, room_version: version, ...(version === "10" ? { creator } : {}) };
}

function sendState(
  send: Send,
  deps: CreateRoomDeps,
  room: { roomId: string; creator: string; alias: string | undefined },
  request: CreateRoomRequest,
): void {
  const preset = request.preset ?? (request.visibility === "public" ? "public_chat" : "private_chat");
  const initial = request.initial_state ?? [];
  const given = new Set(initial.map((event) => `${event.type}\0${event.state_key}`));
  const sendUnlessGiven: Send = (type, stateKey, content) => {
    if (!given.has(`${type}\0${stateKey}`)) send(type, stateKey, content);
  };
  const ownLevels = initial.find((event) => event.type === "m.room.power_levels" && event.state_key === "");
  send("m.room.power_levels", "", ownLevels?.content ?? powerLevels(room.creator, preset, request));
  if (room.alias !== undefined) {
    deps.aliases.add(room.alias, room.roomId, room.creator);
    send("m.room.canonical_alias", "", { alias: room.alias });
  }
  sendUnlessGiven("m.room.join_rules", "", { join_rule: presets[preset].joinRule });
  sendUnlessGiven("m.room.history_visibility", "", { history_visibility: "shared" });
  if (presets[preset].guestAccess === "can_join") {
    sendUnlessGiven("m.room.guest_access", "", { guest_access: "can_join" });
  }
  for (const event of initial) if (event !== ownLevels) send(event.type, event.state_key, event.content);
  if (request.name != null) send("m.room.name", "", { name: request.name });
  if (request.topic != null) {
    send("m.room.topic", "", { topic: request.topic, "m.topic": { "m.text": [{ body: request.topic }] } });
  }
}

function powerLevels(creator: string, preset: Preset, request: CreateRoomRequest): JsonObject {
  const users: JsonObject = { [creator]: 100 };
  if (preset === "trusted_private_chat") for (const userId of request.invite ?? []) users[userId] = 100;
  const override = request.power_level_content_override ?? {};
  return {
    users,
    users_default: 0,
    events: {
      "m.room.name": 50,
      "m.room.power_levels": 100,
      "m.room.history_visibility": 100,
      "m.room.canonical_alias": 50,
      "m.room.avatar": 50,
      "m.room.tombstone": 100,
      "m.room.server_acl": 100,
      "m.room.encryption": 100,
    },
    events_default: 0,
    state_default: 50,
    ban: 50,
    kick: 50,
    redact: 50,
    invite: 50,
    historical: 100,
    ...override,
  };
}
