/** Turning stored events into what clients read: unsigned data, redactions, and bundled relations. */
import type { Clock } from "@bureau/kit/clock";
import type { EventStore } from "../store/event-store.ts";
import { type Json, type JsonObject, type RoomEvent, stringField } from "./room-event.ts";
import type { RoomState } from "./room-state.ts";

/** Who reads: decides about `transaction_id` and `current_user_participated`. */
export type Viewer = { readonly userId: string; readonly deviceId: string };

export type EventFormatter = {
  /** The whole event, with `room_id`. */
  full(event: RoomEvent, viewer: Viewer): JsonObject;
  /** As {@link full} without `room_id`, which /sync gives once a room. */
  inRoom(event: RoomEvent, viewer: Viewer): JsonObject;
};

export function createEventFormatter(events: EventStore, clock: Clock): EventFormatter {
  const base = (event: RoomEvent, viewer: Viewer): JsonObject => {
    const unsigned: JsonObject = { age: Math.max(0, clock.now() - event.originServerTs) };
    if (event.txnId !== null && event.sender === viewer.userId && event.txnDevice === viewer.deviceId) {
      unsigned["transaction_id"] = event.txnId;
    }
    addPrevious(unsigned, event, events);
    if (event.redactedBy !== null) addRedaction(unsigned, event.redactedBy, viewer, full);
    else if (event.stateKey === null) addRelations(unsigned, event, viewer);
    return {
      type: event.type,
      event_id: event.eventId,
      sender: event.sender,
      origin_server_ts: event.originServerTs,
      content: event.content,
      ...(event.stateKey === null ? {} : { state_key: event.stateKey }),
      ...(event.redacts === null ? {} : { redacts: event.redacts }),
      unsigned,
    };
  };
  const full = (event: RoomEvent, viewer: Viewer): JsonObject => ({
    room_id: event.roomId,
    ...base(event, viewer),
  });

  const addRedaction = (unsigned: JsonObject, id: string, viewer: Viewer, format: typeof full): void => {
    const redaction = events.byId(id);
    if (redaction !== undefined) unsigned["redacted_because"] = format(redaction, viewer);
  };

  const addRelations = (unsigned: JsonObject, event: RoomEvent, viewer: Viewer): void => {
    const related = events.related(event.eventId);
    if (related.length === 0) return;
    const relations: JsonObject = {};
    const replies = related.filter((row) => row.rel_type === "m.thread");
    const latest = replies.at(-1);
    if (latest !== undefined) {
      const participated =
        event.sender === viewer.userId || replies.some((row) => row.sender === viewer.userId);
      relations["m.thread"] = {
        latest_event: full(events.toEvent(latest), viewer),
        count: replies.length,
        current_user_participated: participated,
      };
    }
    const edit = related.findLast(
      (row) => row.rel_type === "m.replace" && row.sender === event.sender && row.type === event.type,
    );
    if (edit !== undefined) relations["m.replace"] = full(events.toEvent(edit), viewer);
    const references = related.filter((row) => row.rel_type === "m.reference");
    if (references.length > 0) {
      relations["m.reference"] = { chunk: references.map((row) => ({ event_id: row.event_id })) };
    }
    if (Object.keys(relations).length > 0) unsigned["m.relations"] = relations;
  };

  return { full, inRoom: base };
}

function addPrevious(unsigned: JsonObject, event: RoomEvent, events: EventStore): void {
  if (event.replaces === null) return;
  const previous = events.byStream(event.replaces);
  if (previous === undefined) return;
  unsigned["replaces_state"] = previous.eventId;
  unsigned["prev_content"] = previous.content;
  unsigned["prev_sender"] = previous.sender;
}

/** State shown to somebody who is only invited or knocking: type, key, content and sender. */
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
