/** Turning stored events into what clients read: unsigned data, redactions, and bundled relations. */
import type { Clock } from "@bureau/kit/clock";
import type { EventRow, EventStore } from "../store/event-store.ts";
import { type Json, type JsonObject, type RoomEvent, stringField } from "./room-event.ts";
import type { RoomState } from "./room-state.ts";
import { type Sight, seesEverything } from "./room-view.ts";

/** The reader: decides about `transaction_id` and `current_user_participated`. */
export type Viewer = { readonly userId: string; readonly deviceId: string };

export type EventFormatter = {
  /** The whole event, with `room_id`. `sight` is that of the viewer in the event's room. */
  full(event: RoomEvent, viewer: Viewer, sight: Sight): JsonObject;
  /** As {@link full} without `room_id`, which /sync gives once a room. */
  inRoom(event: RoomEvent, viewer: Viewer, sight: Sight): JsonObject;
};

/** Maximum references bundled with one event. Clients request the rest. */
const REFERENCES_MAX = 100;

export function createEventFormatter(events: EventStore, clock: Clock): EventFormatter {
  /** The event without bundled relations. Bundled events have this form, or they would nest. */
  const plain = (event: RoomEvent, viewer: Viewer, bundled: JsonObject = {}): JsonObject => {
    const unsigned: JsonObject = { age: Math.max(0, clock.now() - event.originServerTs) };
    if (event.txnId !== null && event.sender === viewer.userId && event.txnDevice === viewer.deviceId) {
      unsigned["transaction_id"] = event.txnId;
    }
    addPrevious(unsigned, event, events);
    return {
      type: event.type,
      event_id: event.eventId,
      sender: event.sender,
      origin_server_ts: event.originServerTs,
      content: event.content,
      ...(event.stateKey === null ? {} : { state_key: event.stateKey }),
      ...(event.redacts === null ? {} : { redacts: event.redacts }),
      unsigned: { ...unsigned, ...bundled },
    };
  };
  const inner = (event: RoomEvent, viewer: Viewer): JsonObject => ({
    room_id: event.roomId,
    ...plain(event, viewer),
  });
  const inRoom = (event: RoomEvent, viewer: Viewer, sight: Sight): JsonObject => {
    if (event.redactedBy !== null) {
      const redaction = events.byId(event.redactedBy);
      if (redaction === undefined) return plain(event, viewer);
      // The empty content shows that the event was redacted. Only users who may see the redaction learn the reason.
      const shown = isSeen(redaction, sight) ? redaction : { ...redaction, content: {} };
      return plain(event, viewer, { redacted_because: inner(shown, viewer) });
    }
    if (event.stateKey !== null || !events.hasRelated(event.eventId)) return plain(event, viewer);
    const relations = relationsOf(events, event, viewer, sight, (one) => inner(one, viewer));
    return plain(event, viewer, Object.keys(relations).length === 0 ? {} : { "m.relations": relations });
  };
  return {
    inRoom,
    full: (event, viewer, sight) => ({ room_id: event.roomId, ...inRoom(event, viewer, sight) }),
  };
}

const isSeen = (event: RoomEvent, { canSee, end }: Sight): boolean =>
  event.stream <= end && canSee({ stream: event.stream, type: event.type, state_key: event.stateKey });

/** Related events of the same room that the viewer may see. Any event may name any other event of any room. */
function relationsOf(
  events: EventStore,
  event: RoomEvent,
  viewer: Viewer,
  sight: Sight,
  format: (event: RoomEvent) => JsonObject,
): JsonObject {
  const { eventId, roomId } = event;
  const seen = function* (relType: string, sender?: string): Generator<EventRow, void, undefined> {
    const by = sender === undefined ? {} : { sender };
    const rows = events.related({ eventId, roomId, upTo: sight.end, direction: "b", relType, ...by });
    for (const row of rows) if (sight.canSee(row)) yield row;
  };
  const relations: JsonObject = {};
  const latest = seen("m.thread").next().value;
  if (latest !== undefined) {
    const count =
      sight.canSee === seesEverything
        ? events.countRelated(eventId, roomId, "m.thread", sight.end)
        : [...seen("m.thread")].length;
    relations["m.thread"] = {
      latest_event: format(events.toEvent(latest)),
      count,
      current_user_participated:
        event.sender === viewer.userId || seen("m.thread", viewer.userId).next().done !== true,
    };
  }
  const edit = seen("m.replace", event.sender).find((row) => row.type === event.type);
  if (edit !== undefined) relations["m.replace"] = format(events.toEvent(edit));
  const references = [...seen("m.reference").take(REFERENCES_MAX)].reverse();
  if (references.length > 0) {
    relations["m.reference"] = { chunk: references.map((row) => ({ event_id: row.event_id })) };
  }
  return relations;
}

function addPrevious(unsigned: JsonObject, event: RoomEvent, events: EventStore): void {
  if (event.replaces === null) return;
  const previous = events.byStream(event.replaces);
  if (previous === undefined) return;
  unsigned["replaces_state"] = previous.eventId;
  unsigned["prev_content"] = previous.content;
  unsigned["prev_sender"] = previous.sender;
}

/** State shown to a user who is invited or knocks: type, key, content and sender. */
export const strippedEvent = (event: RoomEvent): JsonObject => ({
  type: event.type,
  state_key: event.stateKey,
  content: event.content,
  sender: event.sender,
});

/** State types shown to the invited (Client-Server API, "Stripped state"). */
export const strippedTypes = [
  "m.room.create",
  "m.room.name",
  "m.room.avatar",
  "m.room.topic",
  "m.room.join_rules",
  "m.room.canonical_alias",
  "m.room.encryption",
] as const;

/** A room's published summary, for public lists. */
export function roomSummary(state: RoomState): JsonObject {
  const text = (type: string, key: string): Record<string, Json> => {
    const content = state.get(type, "")?.content;
    const value = content && stringField(content, key);
    return value === undefined ? {} : { [key === "alias" ? "canonical_alias" : key]: value };
  };
  const avatar = state.get("m.room.avatar", "")?.content;
  const url = avatar && stringField(avatar, "url");
  const guests = state.get("m.room.guest_access", "")?.content;
  return {
    room_id: state.roomId,
    num_joined_members: [...state.membersWith("join")].length,
    world_readable: state.historyVisibility() === "world_readable",
    guest_can_join: guests?.["guest_access"] === "can_join",
    ...text("m.room.join_rules", "join_rule"),
    ...text("m.room.name", "name"),
    ...text("m.room.topic", "topic"),
    ...text("m.room.canonical_alias", "alias"),
    ...(url === undefined ? {} : { avatar_url: url }),
  };
}
