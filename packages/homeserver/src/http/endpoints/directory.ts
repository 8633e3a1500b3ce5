/** Aliases, published rooms, and finding people. */
import * as v from "valibot";
import type { Accounts } from "../../auth/accounts.ts";
import type { Aliases } from "../../rooms/aliases.ts";
import { roomSummary } from "../../rooms/client-event.ts";
import type { JsonObject } from "../../rooms/room-event.ts";
import type { RoomRegistry } from "../../rooms/room-registry.ts";
import { openRoomView } from "../../rooms/room-view.ts";
import type { EventStore } from "../../store/event-store.ts";
import type { RoomStore } from "../../store/room-store.ts";
import { forbidden, notFound } from "../matrix-error.ts";
import { intQuery, param, parseBody } from "../request.ts";
import { type AuthedRequest, authed, open, type Route } from "../router.ts";

type Deps = {
  readonly aliases: Aliases;
  readonly accounts: Accounts;
  readonly registry: RoomRegistry;
  readonly rooms: RoomStore;
  readonly events: EventStore;
};

const aliasSchema = v.object({ room_id: v.string() });
const visibilitySchema = v.object({ visibility: v.optional(v.picklist(["public", "private"]), "public") });
const publicRoomsSchema = v.object({
  limit: v.optional(v.nullable(v.pipe(v.number(), v.integer(), v.minValue(0)))),
  since: v.optional(v.nullable(v.string())),
  filter: v.optional(v.nullable(v.looseObject({ generic_search_term: v.optional(v.nullable(v.string())) }))),
});
const searchSchema = v.object({
  search_term: v.pipe(v.string(), v.maxLength(255)),
  limit: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 10),
});

/** Maximum rooms or people in one answer. */
const LIST_MAX = 500;

export function directoryEndpoints(deps: Deps): Route[] {
  const { aliases } = deps;
  return [
    open("GET", "/directory/room/:alias", (request) => {
      const found = aliases.find(param(request, "alias"));
      if (found === undefined)
        throw notFound(`Room alias ${param(request, "alias").slice(0, 255)} not found`);
      return { room_id: found.roomId, servers: [deps.accounts.serverName] };
    }),
    authed("PUT", "/directory/room/:alias", async (request) => {
      const body = await parseBody(request, aliasSchema);
      aliases.put(param(request, "alias"), body.room_id, request.session.userId);
      return {};
    }),
    authed("DELETE", "/directory/room/:alias", (request) => {
      aliases.remove(param(request, "alias"), request.session);
      return {};
    }),
    authed("GET", "/rooms/:roomId/aliases", (request) => {
      const view = openRoomView(deps.registry, deps.events, param(request, "roomId"), request.session.userId);
      return { aliases: deps.rooms.aliasesOf(view.state.roomId) };
    }),
    open("GET", "/directory/list/room/:roomId", (request) => {
      const room = deps.rooms.room(param(request, "roomId"));
      if (room === undefined) throw notFound("Room not found");
      return { visibility: room.published === 1 ? "public" : "private" };
    }),
    authed("PUT", "/directory/list/room/:roomId", (request) => publish(deps, request)),
    open("GET", "/publicRooms", ({ query }) =>
      publicRooms(deps, "", intQuery(query, "limit", LIST_MAX, LIST_MAX), query.get("since")),
    ),
    authed("POST", "/publicRooms", async (request) => {
      const body = await parseBody(request, publicRoomsSchema);
      const term = body.filter?.generic_search_term ?? "";
      return publicRooms(deps, term, Math.min(body.limit ?? LIST_MAX, LIST_MAX), body.since ?? null);
    }),
    authed("POST", "/user_directory/search", (request) => searchUsers(deps, request)),
  ];
}

async function publish(deps: Deps, request: AuthedRequest): Promise<JsonObject> {
  const body = await parseBody(request, visibilitySchema);
  const roomId = param(request, "roomId");
  const state = deps.registry.find(roomId);
  if (state === undefined) throw notFound("Room not found");
  const { userId, isAdmin } = request.session;
  const levels = state.powerLevels();
  const needed = levels.toSend("m.room.canonical_alias", true);
  if (!isAdmin && (state.membership(userId) !== "join" || levels.ofUser(userId) < needed)) {
    throw forbidden(`You need power level ${needed} in the room to change whether it is listed`);
  }
  deps.rooms.setPublished(roomId, body.visibility === "public");
  return {};
}

function publicRooms(deps: Deps, term: string, limit: number, since: string | null): JsonObject {
  const needle = term.toLowerCase();
  const all = deps.rooms.published().flatMap((row) => {
    const state = deps.registry.find(row.room_id);
    if (state === undefined) return [];
    const summary = roomSummary(state);
    const text = ["name", "topic", "canonical_alias"].map((key) => String(summary[key] ?? "")).join("\n");
    return text.toLowerCase().includes(needle) ? [summary] : [];
  });
  const offset = since !== null && /^\d{1,9}$/.test(since) ? Number(since) : 0;
  const next = offset + limit;
  return {
    chunk: all.slice(offset, next),
    total_room_count_estimate: all.length,
    ...(next < all.length ? { next_batch: String(next) } : {}),
    ...(offset > 0 ? { prev_batch: String(Math.max(0, offset - limit)) } : {}),
  };
}

/** People the caller shares a room with. */
async function searchUsers(deps: Deps, request: AuthedRequest): Promise<JsonObject> {
  const body = await parseBody(request, searchSchema);
  const limit = Math.min(body.limit, LIST_MAX);
  const found = deps.accounts
    .search(body.search_term)
    .filter((user) => deps.registry.shareRoom(user.user_id, request.session.userId));
  return {
    limited: found.length > limit,
    results: found.slice(0, limit).map((user) => ({
      user_id: user.user_id,
      ...(user.displayname === null ? {} : { display_name: user.displayname }),
      ...(user.avatar_url === null ? {} : { avatar_url: user.avatar_url }),
    })),
  };
}
