/** Sending, redacting and reading events: the timeline side of a room. */
import * as v from "valibot";
import type { EventFormatter } from "../../rooms/client-event.ts";
import type { JsonObject, RoomEvent } from "../../rooms/room-event.ts";
import type { RoomRegistry } from "../../rooms/room-registry.ts";
import { openRoomView, type RoomView } from "../../rooms/room-view.ts";
import type { RoomWriter } from "../../rooms/room-writer.ts";
import type { EventRow, EventStore } from "../../store/event-store.ts";
import { compileEventFilter, EVENTS_LIMIT_MAX, type EventFilter } from "../../sync/event-filter.ts";
import { filterState, SCAN_ROWS_MAX } from "../../sync/room-section.ts";
import { formatPosition, parseToken } from "../../sync/stream-token.ts";
import { forbidden, invalidParam, notFound } from "../matrix-error.ts";
import { directionQuery, intQuery, param, parseJsonObject, parseValue } from "../request.ts";
import { type AuthedRequest, authed, type Route } from "../router.ts";

export type RoomEventDeps = {
  readonly events: EventStore;
  readonly registry: RoomRegistry;
  readonly writer: RoomWriter;
  readonly format: EventFormatter;
  /** The newest stream position. */
  readonly position: () => number;
};

/** Events of one page by default. */
const PAGE_LIMIT = 10;

export function roomEventEndpoints(deps: RoomEventDeps): Route[] {
  return [
    authed("PUT", "/rooms/:roomId/send/:eventType/:txnId", (request) => send(deps, request)),
    authed("PUT", "/rooms/:roomId/redact/:eventId/:txnId", (request) => redact(deps, request)),
    authed("GET", "/rooms/:roomId/event/:eventId", (request) => {
      const view = viewOf(deps, request);
      return deps.format.full(visibleEvent(deps, view, param(request, "eventId")), request.session, view);
    }),
    authed("GET", "/rooms/:roomId/context/:eventId", (request) => context(deps, request)),
    authed("GET", "/rooms/:roomId/messages", (request) => messages(deps, request)),
  ];
}

export const viewOf = (deps: RoomEventDeps, request: AuthedRequest): RoomView =>
  openRoomView(deps.registry, deps.events, param(request, "roomId"), request.session.userId);

/** An event of the room that the user may see, or M_NOT_FOUND. */
export function visibleEvent(deps: RoomEventDeps, view: RoomView, eventId: string): RoomEvent {
  const event = deps.events.byId(eventId);
  const seen =
    event !== undefined &&
    event.roomId === view.state.roomId &&
    view.canSee({ stream: event.stream, type: event.type, state_key: event.stateKey });
  if (!seen) throw notFound(`Event ${eventId.slice(0, 255)} not found`);
  return event;
}

async function send(deps: RoomEventDeps, request: AuthedRequest): Promise<JsonObject> {
  const content = await request.json();
  const { userId, deviceId } = request.session;
  const type = param(request, "eventType");
  const txnId = request.params["txnId"];
  if (type === "m.room.redaction") {
    const target = parseValue(v.looseObject({ redacts: v.string() }), content).redacts;
    return redactEvent(deps, request, target, content);
  }
  const event = deps.writer.append({
    roomId: param(request, "roomId"),
    type,
    sender: userId,
    content,
    ...(txnId === undefined ? {} : { transaction: { deviceId, txnId } }),
  });
  return { event_id: event.eventId };
}

const redactSchema = v.object({ reason: v.optional(v.nullable(v.string())) });

async function redact(deps: RoomEventDeps, request: AuthedRequest): Promise<JsonObject> {
  const { reason } = parseValue(redactSchema, await request.json());
  return redactEvent(deps, request, param(request, "eventId"), reason == null ? {} : { reason });
}

/** Redacting one's own event needs the level for sending redactions; redacting others' events needs the redact level. */
function redactEvent(
  deps: RoomEventDeps,
  request: AuthedRequest,
  targetId: string,
  content: JsonObject,
): JsonObject {
  const roomId = param(request, "roomId");
  const { userId, deviceId } = request.session;
  const state = deps.registry.get(roomId);
  if (state.membership(userId) !== "join") throw forbidden(`You are not in room ${roomId}`);
  const target = deps.events.byId(targetId);
  if (target === undefined || target.roomId !== roomId)
    throw notFound(`Event ${targetId.slice(0, 255)} not found`);
  if (target.type === "m.room.create") throw forbidden("The create event of a room cannot be redacted");
  const levels = state.powerLevels();
  const [own, needed] = [levels.ofUser(userId), levels.toAct("redact")];
  if (target.sender !== userId && own < needed) {
    throw forbidden(`You need power level ${needed} to redact the events of others; you have ${own}`);
  }
  const txnId = request.params["txnId"];
  const event = deps.writer.append({
    roomId,
    type: "m.room.redaction",
    sender: userId,
    content: state.version === "10" ? content : { ...content, redacts: targetId },
    redacts: targetId,
    ...(txnId === undefined ? {} : { transaction: { deviceId, txnId } }),
  });
  return { event_id: event.eventId };
}

export type Page = {
  readonly events: RoomEvent[];
  readonly more: boolean;
  /** Where the page ended at the row limit: the first row that was not read. */
  readonly cut?: number;
};

/** Up to `limit` visible events that pass the filter from the rows, and whether there are more. */
export function takePage(
  deps: { events: EventStore },
  rows: Iterable<EventRow>,
  limit: number,
  accepts: (row: EventRow) => boolean,
  acceptsContent: (content: JsonObject) => boolean = () => true,
  budget = SCAN_ROWS_MAX,
): Page {
  const events: RoomEvent[] = [];
  if (limit === 0) return { events, more: false };
  let left = budget;
  for (const row of rows) {
    if (left === 0) return { events, more: true, cut: row.stream };
    left -= 1;
    if (!accepts(row)) continue;
    const event = deps.events.toEvent(row);
    if (!acceptsContent(event.content)) continue;
    if (events.length === limit) return { events, more: true };
    events.push(event);
  }
  return { events, more: false };
}

/** The position where the next page starts; undefined for an empty page. */
export function endOf({ events, cut }: Page, dir: "b" | "f"): number | undefined {
  const last = events.at(-1)?.stream;
  if (cut !== undefined) return dir === "b" ? cut : cut - 1;
  return last === undefined || dir === "f" ? last : last - 1;
}

function filterQuery(request: AuthedRequest): EventFilter {
  return compileEventFilter(parseJsonObject(request.query.get("filter") ?? "{}"));
}

function messages(deps: RoomEventDeps, request: AuthedRequest): JsonObject {
  const view = viewOf(deps, request);
  const { query } = request;
  const dir = directionQuery(query, "b");
  const filter = filterQuery(request);
  const limit = intQuery(query, "limit", PAGE_LIMIT, EVENTS_LIMIT_MAX);
  const end = Math.min(deps.position(), view.end);
  const given = query.get("from");
  const from =
    given === null || given === "" ? (dir === "b" ? end : 0) : Math.min(parseToken(given).stream, end);
  const to = query.get("to");
  const bound = to === null || to === "" ? undefined : parseToken(to).stream;
  const roomId = view.state.roomId;
  const [low, high] = dir === "b" ? [bound ?? 0, from] : [from, Math.min(bound ?? end, end)];
  const accepts = (row: EventRow): boolean => view.canSee(row) && filter.accepts(row);
  const page = takePage(
    deps,
    deps.events.scan(roomId, low, high, dir),
    limit,
    accepts,
    filter.acceptsContent,
  );
  const next = endOf(page, dir);
  const more = page.more || (dir === "f" && bound === undefined);
  return {
    chunk: page.events.map((event) => deps.format.full(event, request.session, view)),
    start: given === null || given === "" ? formatPosition(from) : given,
    ...(more && next !== undefined ? { end: formatPosition(next) } : {}),
    ...lazyMembers(deps, view, filter, page.events, request),
  };
}

function lazyMembers(
  deps: RoomEventDeps,
  view: RoomView,
  filter: EventFilter,
  events: readonly RoomEvent[],
  request: AuthedRequest,
): JsonObject {
  if (!filter.lazyLoadMembers) return {};
  const senders = new Set(events.map((event) => event.sender));
  const members = [...senders].flatMap((sender) => view.stateEvent("m.room.member", sender) ?? []);
  return { state: members.map((event) => deps.format.full(event, request.session, view)) };
}

function context(deps: RoomEventDeps, request: AuthedRequest): JsonObject {
  const view = viewOf(deps, request);
  const event = visibleEvent(deps, view, param(request, "eventId"));
  const filter = filterQuery(request);
  const limit = intQuery(request.query, "limit", PAGE_LIMIT, EVENTS_LIMIT_MAX);
  const accepts = (row: EventRow): boolean => view.canSee(row) && filter.accepts(row);
  const roomId = view.state.roomId;
  const half = Math.floor(limit / 2);
  const end = Math.min(deps.position(), view.end);
  const olderRows = deps.events.scan(roomId, 0, event.stream - 1, "b");
  const older = takePage(deps, olderRows, half, accepts, filter.acceptsContent).events;
  const newerRows = deps.events.scan(roomId, event.stream, end, "f");
  const newer = takePage(deps, newerRows, limit - half, accepts, filter.acceptsContent).events;
  const shown = [event, ...older, ...newer];
  // Former members see their own leave event and a later ban, but not state changes in between.
  const stateAt = deps.events.stateAt(roomId, Math.min((newer.at(-1) ?? event).stream, view.end));
  const state = filterState(stateAt, filter, {
    roomId,
    timeline: shown,
    viewer: request.session.userId,
    member: (userId) => view.stateEvent("m.room.member", userId),
  });
  const format = (one: RoomEvent): JsonObject => deps.format.full(one, request.session, view);
  return {
    event: format(event),
    events_before: older.map(format),
    events_after: newer.map(format),
    start: formatPosition((older.at(-1) ?? event).stream - 1),
    end: formatPosition((newer.at(-1) ?? event).stream),
    state: state.map(format),
  };
}

/** `from` of a page of relations or threads: a token, or nothing for the beginning. */
export function fromQuery(request: AuthedRequest, name: "from" | "to"): number | undefined {
  const text = request.query.get(name);
  if (text === null || text === "") return undefined;
  if (text.length > 60) throw invalidParam(`${name} is not a token of this server`);
  return parseToken(text).stream;
}
