/** Filters of /sync, /messages and /context, compiled once a request from the JSON a client gave. */
import * as v from "valibot";
import { parseValue } from "../http/request.ts";
import { isJsonObject, type JsonObject, type RoomEvent } from "../rooms/room-event.ts";

const names = v.optional(v.nullable(v.array(v.string())));
const roomEventSchema = v.looseObject({
  limit: v.optional(v.nullable(v.pipe(v.number(), v.integer(), v.minValue(0)))),
  types: names,
  not_types: names,
  senders: names,
  not_senders: names,
  rooms: names,
  not_rooms: names,
  contains_url: v.optional(v.nullable(v.boolean())),
  lazy_load_members: v.optional(v.nullable(v.boolean())),
  related_by_rel_types: names,
  related_by_senders: names,
});
const part = v.optional(v.nullable(roomEventSchema));
const roomSchema = v.looseObject({
  rooms: names,
  not_rooms: names,
  include_leave: v.optional(v.nullable(v.boolean())),
  state: part,
  timeline: part,
  ephemeral: part,
  account_data: part,
});
const filterSchema = v.looseObject({
  presence: part,
  account_data: part,
  event_fields: names,
  room: v.optional(v.nullable(roomSchema)),
});
type RoomFilterJson = v.InferOutput<typeof roomSchema>;
type RoomEventFilterJson = v.InferOutput<typeof roomEventSchema>;

/** The fields a filter reads. It reads the content only for `contains_url`. */
export type Filterable = { readonly type: string; readonly sender?: string; readonly room_id?: string };

export type EventFilter = {
  readonly limit: number;
  readonly lazyLoadMembers: boolean;
  /** Whether an event can pass: an empty `types` list allows none. */
  readonly passesNothing: boolean;
  readonly accepts: (event: Filterable) => boolean;
  /** The only types that can pass; undefined when they cannot be listed. */
  readonly types: readonly string[] | undefined;
  /** For filters that read the content. */
  readonly acceptsContent: (content: JsonObject) => boolean;
  readonly acceptsRoom: (roomId: string) => boolean;
};

/** The part of a sync filter that concerns rooms. */
export type RoomFilter = {
  /** Equal for equal filters. */
  readonly key: string;
  readonly acceptsRoom: (roomId: string) => boolean;
  readonly includeLeave: boolean;
  readonly state: EventFilter;
  readonly timeline: EventFilter;
  readonly ephemeral: EventFilter;
  readonly accountData: EventFilter;
  /** False when the event itself appears in no answer to any client. Other events may still change by it. */
  readonly passes: (event: RoomEvent) => boolean;
  readonly passesEphemeral: (type: string, roomId: string) => boolean;
};

export type SyncFilter = {
  readonly room: RoomFilter;
  readonly accountData: EventFilter;
  readonly presence: EventFilter;
};

/** Timeline events of a room by default. */
const TIMELINE_LIMIT = 20;
/** Maximum timeline events of a room in one answer. */
export const EVENTS_LIMIT_MAX = 1_000;

/** Compiles a whole sync filter. M_BAD_JSON when its shape is wrong. */
export function compileSyncFilter(json: JsonObject): SyncFilter {
  const filter = parseValue(filterSchema, json);
  return {
    room: compileRoomFilter(filter.room ?? {}),
    accountData: compile(filter.account_data ?? {}),
    presence: compile(filter.presence ?? {}),
  };
}

function compileRoomFilter(room: RoomFilterJson): RoomFilter {
  const acceptsRoom = acceptsIn(room.rooms, room.not_rooms);
  const [state, timeline, ephemeral] = [room.state, room.timeline, room.ephemeral].map((part) =>
    compile(part ?? {}),
  ) as [EventFilter, EventFilter, EventFilter];
  return {
    key: JSON.stringify(room),
    acceptsRoom,
    includeLeave: room.include_leave ?? false,
    state,
    timeline,
    ephemeral,
    accountData: compile(room.account_data ?? {}),
    passes: (event) =>
      acceptsRoom(event.roomId) &&
      ((timeline.limit > 0 && acceptsEvent(timeline, event)) ||
        (event.stateKey !== null && acceptsEvent(state, event))),
    passesEphemeral: (type, roomId) => acceptsRoom(roomId) && ephemeral.accepts({ type, room_id: roomId }),
  };
}

const acceptsEvent = (filter: EventFilter, { type, sender, roomId, content }: RoomEvent): boolean =>
  filter.acceptsRoom(roomId) && filter.accepts({ type, sender }) && filter.acceptsContent(content);

/** Checks a filter, for the endpoint that stores it. */
export const checkSyncFilter = (json: JsonObject): void => void parseValue(filterSchema, json);

/** Compiles the RoomEventFilter that /messages and /context take. */
export const compileEventFilter = (json: JsonObject): EventFilter =>
  compile(parseValue(roomEventSchema, json));

function compile(json: RoomEventFilterJson): EventFilter {
  const types = acceptsTypes(json.types, json.not_types);
  const senders = acceptsIn(json.senders, json.not_senders);
  const rooms = acceptsIn(json.rooms, json.not_rooms);
  const containsUrl = json.contains_url ?? undefined;
  return {
    limit: Math.min(json.limit ?? TIMELINE_LIMIT, EVENTS_LIMIT_MAX),
    lazyLoadMembers: json.lazy_load_members ?? false,
    types: json.types?.some((type) => type.includes("*")) ? undefined : (json.types ?? undefined),
    passesNothing: [json.types, json.senders, json.rooms].some((list) => list?.length === 0),
    accepts: ({ type, sender, room_id }) =>
      types(type) && (sender === undefined || senders(sender)) && (room_id === undefined || rooms(room_id)),
    acceptsContent: (content) =>
      containsUrl === undefined ||
      containsUrl === (isJsonObject(content) && typeof content["url"] === "string"),
    acceptsRoom: rooms,
  };
}

type NameList = readonly string[] | null | undefined;

function acceptsIn(wanted: NameList, unwanted: NameList): (name: string) => boolean {
  const yes = wanted == null ? undefined : new Set(wanted);
  const no = new Set(unwanted ?? []);
  return (name) => (yes === undefined || yes.has(name)) && !no.has(name);
}

/** Types may end in, or hold, `*` for any text. */
function acceptsTypes(wanted: NameList, unwanted: NameList): (type: string) => boolean {
  const yes = wanted == null ? undefined : globs(wanted);
  const no = globs(unwanted ?? []);
  return (type) => (yes === undefined || yes(type)) && !no(type);
}

function globs(patterns: readonly string[]): (type: string) => boolean {
  const exact = new Set(patterns.filter((pattern) => !pattern.includes("*")));
  const wild = patterns.filter((pattern) => pattern.includes("*")).map((pattern) => pattern.split("*"));
  return (type) => exact.has(type) || wild.some((parts) => matchesGlob(parts, type));
}

/** Linear glob matching, because a client's pattern must not cause backtracking. */
function matchesGlob(parts: readonly string[], text: string): boolean {
  const [first = "", last = ""] = [parts[0], parts.at(-1)];
  if (text.length < first.length + last.length || !text.startsWith(first) || !text.endsWith(last))
    return false;
  let at = first.length;
  const end = text.length - last.length;
  for (const part of parts.slice(1, -1)) {
    const found = text.indexOf(part, at);
    if (found < 0 || found + part.length > end) return false;
    at = found + part.length;
  }
  return true;
}
