/**
 * One room's part of a /sync answer. The invariant: applying `state` and then `timeline` to
 * the client's state at `since` gives the room's current state, even when filters hide timeline events.
 */
import type { EventFormatter, Viewer } from "../rooms/client-event.ts";
import { type JsonObject, membershipOf, type RoomEvent, stringField } from "../rooms/room-event.ts";
import type { RoomState } from "../rooms/room-state.ts";
import { type Visibility, visibilityOf } from "../rooms/room-view.ts";
import type { EventStore } from "../store/event-store.ts";
import type { EventFilter, RoomFilter } from "./event-filter.ts";
import { formatPosition } from "./stream-token.ts";

/** Maximum rows read for one timeline or page, for filters that match few events. */
export const SCAN_ROWS_MAX = 5_000;
/** The same for a client that is new to the room, with a filter that lists types: it asks for state, hardly for history. */
const FIRST_SCAN_ROWS_MAX = 1_000;
/** Maximum heroes of a room without a name. */
const HEROES_MAX = 5;

type Timeline = {
  readonly events: readonly RoomEvent[];
  readonly limited: boolean;
  /** Position before the first event: where older history begins. */
  readonly start: number;
};

/** Newest visible events with `after < stream <= upTo` that pass the filter, oldest first. */
function collectTimeline(
  events: EventStore,
  range: { roomId: string; after: number; upTo: number; rowsMax: number },
  filter: EventFilter,
  canSee: Visibility,
): Timeline {
  const found: RoomEvent[] = [];
  let scanned = 0;
  const cut = (start: number): Timeline => ({ events: found.reverse(), limited: true, start });
  const { roomId, after, upTo, rowsMax } = range;
  if (!filter.acceptsRoom(roomId)) return { events: [], limited: false, start: upTo };
  const { types } = filter;
  // Where the limit of rows lies is found in the index, so that rows of other types are not read.
  const end = types === undefined ? undefined : events.streamAt(roomId, after, upTo, rowsMax);
  const rows =
    types === undefined
      ? events.scan(roomId, after, upTo, "b")
      : events.scanTypes(roomId, end ?? after, upTo, types);
  for (const row of rows) {
    scanned += 1;
    if (types === undefined && scanned > SCAN_ROWS_MAX) return cut(row.stream);
    if (!canSee(row) || !filter.accepts(row)) continue;
    const event = events.toEvent(row);
    if (!filter.acceptsContent(event.content)) continue;
    if (found.length >= filter.limit) return cut(row.stream);
    found.push(event);
  }
  if (end !== undefined) return cut(end);
  const oldest = found.at(-1);
  return {
    events: found.reverse(),
    limited: false,
    start: oldest === undefined ? range.upTo : oldest.stream - 1,
  };
}

/** The state at the end of a range: what changed in it, and what of it was redacted. */
type RangeEnd = { readonly changed: readonly RoomEvent[]; readonly redacted: Iterable<RoomEvent> };

function rangeEnd({ state: room, left }: RoomRange, since: number): RangeEnd {
  if (left === undefined) return { changed: room.changedSince(since), redacted: room.redacted() };
  const state = [...(left.state ?? [])];
  return {
    changed: state.filter((event) => event.stream > since),
    redacted: state.filter((event) => event.redactedBy !== null),
  };
}

/**
 * State sent before a timeline to a client that has the room's state at `since`. It reads what changed of the current state,
 * not the events since then, so a client that was away for long costs no more.
 */
function stateDelta(events: EventStore, range: RoomRange, since: number, timeline: Timeline): RoomEvent[] {
  const shown = new Set(timeline.events.map((event) => event.stream));
  const { changed, redacted } = rangeEnd(range, since);
  const before = changed.flatMap((event) => {
    if (!shown.has(event.stream)) return [event];
    if (event.stateKey === null || event.replaces === null || event.replaces <= since) return [];
    const earlier = events.stateEventAt(event.roomId, event.type, event.stateKey, timeline.start);
    return earlier !== undefined && earlier.stream > since ? [earlier] : [];
  });
  const upTo = range.left?.stream ?? range.upTo;
  return [...unseenRedactions(events, redacted, { since, upTo }, shown), ...before];
}

/** State the client has whose redaction the timeline does not show. */
function unseenRedactions(
  events: EventStore,
  redacted: Iterable<RoomEvent>,
  { since, upTo }: { since: number; upTo: number },
  shown: ReadonlySet<number>,
): RoomEvent[] {
  return [...redacted].filter((event) => {
    if (event.stream > since || event.redactedBy === null) return false;
    const redaction = events.byId(event.redactedBy)?.stream ?? 0;
    return redaction > since && redaction <= upTo && !shown.has(redaction);
  });
}

/** State sent before a timeline to a client that has no state of the room. `current` is the state at its end. */
function fullState(
  events: EventStore,
  roomId: string,
  current: Iterable<RoomEvent>,
  timeline: Timeline,
): RoomEvent[] {
  const shown = new Set(timeline.events.map((event) => event.stream));
  const state: RoomEvent[] = [];
  for (const event of current) {
    if (!shown.has(event.stream)) {
      state.push(event);
      continue;
    }
    if (event.stateKey === null || event.replaces === null) continue;
    const earlier = events.stateEventAt(roomId, event.type, event.stateKey, timeline.start);
    if (earlier !== undefined) state.push(earlier);
  }
  return state;
}

/** Applies the state filter; with lazy loading, only the members that the timeline needs stay. */
export function filterState(
  state: readonly RoomEvent[],
  filter: EventFilter,
  need: {
    roomId: string;
    timeline: readonly RoomEvent[];
    viewer: string;
    /** The member event of a user as the viewer may read it; for a former member, that at their leave event. */
    member: (userId: string) => RoomEvent | undefined;
  },
): RoomEvent[] {
  if (!filter.acceptsRoom(need.roomId)) return [];
  const accepted = state.filter(
    (event) =>
      filter.accepts({ type: event.type, sender: event.sender }) && filter.acceptsContent(event.content),
  );
  if (!filter.lazyLoadMembers) return accepted;
  const wanted = new Set(need.timeline.map((event) => event.sender));
  wanted.add(need.viewer);
  const kept = accepted.filter((event) => event.type !== "m.room.member" || wanted.has(event.stateKey ?? ""));
  const present = new Set(
    [...kept, ...need.timeline].filter((e) => e.type === "m.room.member").map((e) => e.stateKey),
  );
  for (const event of need.timeline) {
    if (present.has(event.sender)) continue;
    const member = need.member(event.sender);
    if (member !== undefined && filter.accepts({ type: member.type, sender: member.sender }))
      kept.push(member);
    present.add(event.sender);
  }
  return kept;
}

export type RoomRange = {
  readonly state: RoomState;
  /** The position the client has, or undefined when it gets the whole room. */
  readonly since: number | undefined;
  readonly upTo: number;
  /** Where the timeline may start; equals `since` for a client that follows the room. */
  readonly timelineAfter: number;
  /** For a left room: the position of the leave event and the state there. A user who was only invited gets no state. */
  readonly left?: { readonly stream: number; readonly state: Iterable<RoomEvent> | undefined };
};

export type RoomSection = {
  readonly timeline: JsonObject;
  readonly state: JsonObject;
  readonly isEmpty: boolean;
  readonly membersChanged: boolean;
};

function memberReader(events: EventStore, { state: room, left }: RoomRange) {
  return (userId: string): RoomEvent | undefined => {
    if (left === undefined) return room.get("m.room.member", userId);
    if (left.state === undefined) return undefined;
    return events.stateEventAt(room.roomId, "m.room.member", userId, left.stream);
  };
}

function changedState(
  events: EventStore,
  range: RoomRange,
  timeline: Timeline,
  filter: EventFilter,
): RoomEvent[] {
  const { state: room, since, left } = range;
  if (left !== undefined && left.state === undefined) return [];
  if (since === undefined) {
    const current = filter.types === undefined ? room.all() : room.ofTypes(filter.types);
    return fullState(events, room.roomId, left?.state ?? current, timeline);
  }
  return stateDelta(events, range, since, timeline);
}

/** Timeline and state of one room. */
export function buildRoomSection(
  deps: { events: EventStore; format: EventFormatter },
  range: RoomRange,
  filter: RoomFilter,
  viewer: Viewer,
): RoomSection {
  const { events } = deps;
  const { state: room, since, upTo } = range;
  const canSee = visibilityOf(room, events, viewer.userId);
  const rowsMax = range.timelineAfter === 0 ? FIRST_SCAN_ROWS_MAX : SCAN_ROWS_MAX;
  const bounds = { roomId: room.roomId, after: range.timelineAfter, upTo, rowsMax };
  const timeline = collectTimeline(events, bounds, filter.timeline, canSee);
  const changed = changedState(events, range, timeline, filter.state);
  const need = {
    roomId: room.roomId,
    timeline: timeline.events,
    viewer: viewer.userId,
    member: memberReader(events, range),
  };
  const state = filterState(changed, filter.state, need);
  const format = (event: RoomEvent): JsonObject => deps.format.inRoom(event, viewer, { canSee, end: upTo });
  const isMember = (event: RoomEvent): boolean => event.type === "m.room.member";
  return {
    isEmpty: state.length === 0 && timeline.events.length === 0,
    membersChanged: since === undefined || changed.some(isMember) || timeline.events.some(isMember),
    state: { events: state.map(format) },
    timeline: {
      events: timeline.events.map(format),
      limited: timeline.limited,
      prev_batch: formatPosition(timeline.start),
    },
  };
}

/** `summary` of a joined room: member counts, and heroes for a room without a name. */
export function memberSummary(room: RoomState, viewer: string): JsonObject {
  const summary: JsonObject = {
    "m.joined_member_count": room.memberCounts.join,
    "m.invited_member_count": room.memberCounts.invite,
  };
  const name = room.get("m.room.name", "")?.content;
  const alias = room.get("m.room.canonical_alias", "")?.content;
  const named = (name && stringField(name, "name")) || (alias && stringField(alias, "alias"));
  if (!named) summary["m.heroes"] = heroesOf(room, viewer);
  return summary;
}

/** The other members, or those who left when there are none. */
function heroesOf(room: RoomState, viewer: string): string[] {
  const present: string[] = [];
  const gone: string[] = [];
  for (const { stateKey, content } of room.ofType("m.room.member")) {
    if (stateKey === null || stateKey === viewer) continue;
    const membership = membershipOf(content);
    (membership === "join" || membership === "invite" ? present : gone).push(stateKey);
  }
  return (present.length > 0 ? present : gone).sort().slice(0, HEROES_MAX);
}
