/** Events that relate to others: replies in threads, edits, references; and the list of a room's threads. */
import type { JsonObject } from "../../rooms/room-event.ts";
import { EVENTS_LIMIT_MAX } from "../../sync/event-filter.ts";
import { formatPosition } from "../../sync/stream-token.ts";
import { invalidParam } from "../matrix-error.ts";
import { directionQuery, intQuery, param } from "../request.ts";
import { type AuthedRequest, authed, type Route } from "../router.ts";
import { endOf, fromQuery, type RoomEventDeps, takePage, viewOf, visibleEvent } from "./room-events.ts";

/** Events of one page by default. */
const PAGE_LIMIT = 5;

export function relationEndpoints(deps: RoomEventDeps): Route[] {
  const handle = (request: AuthedRequest): JsonObject => relations(deps, request);
  const base = "/rooms/:roomId/relations/:eventId";
  return [
    authed("GET", base, handle),
    authed("GET", `${base}/:relType`, handle),
    authed("GET", `${base}/:relType/:eventType`, handle),
    authed("GET", "/rooms/:roomId/threads", (request) => threads(deps, request)),
  ];
}

function relations(deps: RoomEventDeps, request: AuthedRequest): JsonObject {
  const view = viewOf(deps, request);
  const target = visibleEvent(deps, view, param(request, "eventId"));
  const dir = directionQuery(request.query, "b");
  const limit = Math.max(1, intQuery(request.query, "limit", PAGE_LIMIT, EVENTS_LIMIT_MAX));
  const { relType, eventType } = request.params;
  const from = fromQuery(request, "from");
  const to = fromQuery(request, "to");
  const [low, high] = dir === "b" ? [to ?? 0, from] : [from ?? 0, to];
  const rows = deps.events.related({
    eventId: target.eventId,
    roomId: target.roomId,
    after: low,
    upTo: Math.min(high ?? view.end, view.end),
    direction: dir,
    relType,
  });
  const page = takePage(
    deps,
    rows,
    limit,
    (row) => (eventType === undefined || row.type === eventType) && view.canSee(row),
  );
  const next = endOf(page, dir);
  return {
    chunk: page.events.map((event) => deps.format.full(event, request.session, view)),
    ...(page.more && next !== undefined ? { next_batch: formatPosition(next) } : {}),
    ...(from === undefined ? {} : { prev_batch: formatPosition(from) }),
    ...(request.query.get("recurse") === "true" ? { recursion_depth: 1 } : {}),
  };
}

function threads(deps: RoomEventDeps, request: AuthedRequest): JsonObject {
  const view = viewOf(deps, request);
  const include = request.query.get("include") ?? "all";
  if (include !== "all" && include !== "participated")
    throw invalidParam('include must be "all" or "participated"');
  const limit = Math.max(1, intQuery(request.query, "limit", PAGE_LIMIT, EVENTS_LIMIT_MAX));
  const from = fromQuery(request, "from") ?? Number.MAX_SAFE_INTEGER;
  const { roomId } = view.state;
  const { userId } = request.session;
  const chunk: JsonObject[] = [];
  let next: number | undefined;
  for (const root of deps.events.threadRoots(roomId, view.end)) {
    if (root.latest > from) continue;
    const event = deps.events.byId(root.relates_to);
    if (event === undefined || event.roomId !== roomId) continue;
    if (!view.canSee({ stream: event.stream, type: event.type, state_key: event.stateKey })) continue;
    if (include === "participated" && event.sender !== userId) {
      const { eventId } = event;
      const thread = { eventId, roomId, upTo: view.end, direction: "b", relType: "m.thread" } as const;
      if (deps.events.related({ ...thread, sender: userId }).next().done) continue;
    }
    if (chunk.length === limit) {
      next = root.latest;
      break;
    }
    chunk.push(deps.format.full(event, request.session, view));
  }
  return { chunk, ...(next === undefined ? {} : { next_batch: formatPosition(next) }) };
}
