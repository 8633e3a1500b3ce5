/** Rooms beyond one room: a space's hierarchy, the event nearest to a time, and search in message bodies. */
import * as v from "valibot";
import { roomSummary } from "../../rooms/client-event.ts";
import { isJsonObject, type JsonObject, type RoomEvent, stringField } from "../../rooms/room-event.ts";
import type { RoomState } from "../../rooms/room-state.ts";
import { openRoomView, type RoomView } from "../../rooms/room-view.ts";
import { compileEventFilter } from "../../sync/event-filter.ts";
import { forbidden, invalidParam, notFound } from "../matrix-error.ts";
import { directionQuery, intQuery, param, parseBody } from "../request.ts";
import { type AuthedRequest, authed, type Route } from "../router.ts";
import { type RoomEventDeps, takePage, viewOf } from "./room-events.ts";

/** Maximum rooms of a hierarchy in one answer. */
const HIERARCHY_MAX = 500;
/** Maximum rooms visited in a hierarchy. */
const HIERARCHY_WALK_MAX = 2_000;
/** Maximum events read for one search. */
const SEARCH_ROWS_MAX = 20_000;
const SEARCH_RESULTS_MAX = 100;

export function spaceEndpoints(deps: RoomEventDeps): Route[] {
  return [
    authed("GET", "/rooms/:roomId/hierarchy", (request) => hierarchy(deps, request)),
    authed("GET", "/rooms/:roomId/timestamp_to_event", (request) => nearestEvent(deps, request)),
    authed("POST", "/search", (request) => search(deps, request)),
  ];
}

/** Whether a room may be listed to a user: they are in it or invited, or anyone may enter or read it. */
function isListed(state: RoomState, userId: string): boolean {
  const membership = state.membership(userId);
  if (membership === "join" || membership === "invite") return true;
  const rule = state.get("m.room.join_rules", "")?.content["join_rule"];
  return rule === "public" || rule === "knock" || state.historyVisibility() === "world_readable";
}

function childrenOf(state: RoomState): RoomEvent[] {
  const order = (event: RoomEvent): string => stringField(event.content, "order") ?? "\u{10ffff}";
  return [...state.ofType("m.space.child")]
    .filter((event) => Array.isArray(event.content["via"]))
    .sort((a, b) => order(a).localeCompare(order(b)) || a.originServerTs - b.originServerTs);
}

function hierarchy(deps: RoomEventDeps, request: AuthedRequest): JsonObject {
  const root = deps.registry.find(param(request, "roomId"));
  const { userId } = request.session;
  if (root === undefined || !isListed(root, userId)) throw forbidden("You are not in this space");
  const { query } = request;
  const limit = Math.max(1, intQuery(query, "limit", 50, HIERARCHY_MAX));
  const depthMax = intQuery(query, "max_depth", Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  const suggestedOnly = query.get("suggested_only") === "true";
  const skip = intQuery(query, "from", 0, HIERARCHY_WALK_MAX);
  const seen = new Set<string>();
  const rooms: JsonObject[] = [];
  const stack: { state: RoomState; depth: number }[] = [{ state: root, depth: 0 }];
  for (let next = stack.pop(); next !== undefined && seen.size < HIERARCHY_WALK_MAX; next = stack.pop()) {
    const { state, depth } = next;
    if (seen.has(state.roomId)) continue;
    seen.add(state.roomId);
    const children = childrenOf(state).filter(
      (event) => !suggestedOnly || event.content["suggested"] === true,
    );
    rooms.push(hierarchyEntry(state, children));
    if (depth >= depthMax) continue;
    for (const child of children.toReversed()) {
      const inner = deps.registry.find(child.stateKey ?? "");
      if (inner !== undefined && isListed(inner, userId)) stack.push({ state: inner, depth: depth + 1 });
    }
  }
  const page = rooms.slice(skip, skip + limit);
  return { rooms: page, ...(skip + limit < rooms.length ? { next_batch: String(skip + limit) } : {}) };
}

function hierarchyEntry(state: RoomState, children: readonly RoomEvent[]): JsonObject {
  const type = stringField(state.get("m.room.create", "")?.content ?? {}, "type");
  return {
    ...roomSummary(state),
    ...(type === undefined ? {} : { room_type: type }),
    room_version: state.version,
    children_state: children.map((event) => ({
      type: event.type,
      state_key: event.stateKey,
      content: event.content,
      sender: event.sender,
      origin_server_ts: event.originServerTs,
    })),
  };
}

/** There is no position to continue from, so it reads further than a page does: 150 ms at most. */
const TIME_SCAN_ROWS_MAX = 50_000;

function nearestEvent(deps: RoomEventDeps, request: AuthedRequest): JsonObject {
  const view = viewOf(deps, request);
  const ts = intQuery(request.query, "ts", -1, Number.MAX_SAFE_INTEGER);
  if (ts < 0) throw invalidParam("Missing query parameter ts");
  const dir = directionQuery(request.query, "f");
  const rows = deps.events.scanFromTime(view.state.roomId, ts, Math.min(deps.position(), view.end), dir);
  const found = takePage(deps, rows, 1, view.canSee, undefined, TIME_SCAN_ROWS_MAX).events[0];
  if (found === undefined) throw notFound("There is no event on that side of the time");
  return { event_id: found.eventId, origin_server_ts: found.originServerTs };
}

const searchSchema = v.looseObject({
  search_categories: v.looseObject({
    room_events: v.optional(
      v.looseObject({
        search_term: v.pipe(v.string(), v.maxLength(255)),
        keys: v.optional(v.array(v.picklist(["content.body", "content.name", "content.topic"]))),
        filter: v.optional(v.custom<JsonObject>(isJsonObject, "must be an object"), {}),
      }),
    ),
  }),
});

/** Searches the newest events of the joined rooms, newest first: every word of the term must occur. */
async function search(deps: RoomEventDeps, request: AuthedRequest): Promise<JsonObject> {
  const body = await parseBody(request, searchSchema);
  const wanted = body.search_categories.room_events;
  if (wanted === undefined) return { search_categories: {} };
  const filter = compileEventFilter(wanted.filter);
  const words = wanted.search_term.toLowerCase().split(/\s+/).filter(Boolean);
  const keys = (wanted.keys ?? ["content.body", "content.name", "content.topic"]).map((key) =>
    key.slice("content.".length),
  );
  const found: { event: RoomEvent; view: RoomView }[] = [];
  let budget = SEARCH_ROWS_MAX;
  for (const [roomId, entry] of deps.registry.membershipsOf(request.session.userId)) {
    if (entry.membership !== "join" || !filter.acceptsRoom(roomId)) continue;
    const view = openRoomView(deps.registry, deps.events, roomId, request.session.userId);
    for (const row of deps.events.scan(roomId, 0, deps.position(), "b")) {
      budget -= 1;
      if (budget < 0) break;
      if (!filter.accepts(row) || !view.canSee(row) || row.redacted_by !== null) continue;
      const event = deps.events.toEvent(row);
      const text = keys
        .map((key) => stringField(event.content, key) ?? "")
        .join("\n")
        .toLowerCase();
      if (words.length > 0 && words.every((word) => text.includes(word))) found.push({ event, view });
    }
  }
  found.sort((a, b) => b.event.stream - a.event.stream);
  const limit = Math.min(filter.limit, SEARCH_RESULTS_MAX);
  const results = found
    .slice(0, limit)
    .map(({ event, view }) => ({ rank: 1, result: deps.format.full(event, request.session, view) }));
  return { search_categories: { room_events: { count: found.length, highlights: words, results } } };
}
