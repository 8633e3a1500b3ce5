/**
 * The only code that creates events: limits, authorization, one row, caches, then wakes every /sync that
 * the event concerns once the transaction is durable. Order in a room is order of calls; no code here awaits.
 */
import type { Clock } from "@bureau/kit/clock";
import { randomToken } from "../auth/random-id.ts";
import { invalidParam } from "../http/matrix-error.ts";
import type { HomeserverDatabase } from "../store/database.ts";
import type { EventStore, Relation } from "../store/event-store.ts";
import type { RoomStore } from "../store/room-store.ts";
import { checkDraft } from "./content-limits.ts";
import { authorizeEvent } from "./event-rules.ts";
import { redactedContent } from "./redaction.ts";
import {
  type EventDraft,
  type JsonObject,
  membershipOf,
  objectField,
  type RoomEvent,
  stringField,
} from "./room-event.ts";
import type { RoomRegistry } from "./room-registry.ts";
import type { RoomState } from "./room-state.ts";

type Deps = {
  readonly db: HomeserverDatabase;
  readonly clock: Clock;
  readonly events: EventStore;
  readonly rooms: RoomStore;
  readonly registry: RoomRegistry;
  /** Called after the commit, once for each event. */
  readonly onEvent: (event: RoomEvent) => void;
};

export class RoomWriter {
  readonly #deps: Deps;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Creates a room with its create event. Call it inside a transaction with the events that follow. */
  createRoom(room: {
    roomId: string;
    version: string;
    creator: string;
    published: boolean;
    content: JsonObject;
  }): void {
    const { rooms, registry, clock } = this.#deps;
    rooms.insertRoom(room.roomId, room.version, room.creator, clock.now(), room.published);
    const state = registry.created(room.roomId, room.version, room.creator);
    const draft = {
      roomId: room.roomId,
      type: "m.room.create",
      sender: room.creator,
      stateKey: "",
      content: room.content,
    };
    this.#store(state, draft, checkDraft(draft));
  }

  /**
   * Authorizes and appends one event; durable when this returns, unless inside an outer transaction. A repeated
   * client transaction, or state equal to the sender's current event, returns the existing event.
   */
  append(draft: EventDraft): RoomEvent {
    const { db, registry, events } = this.#deps;
    const contentJson = checkDraft(draft);
    const done = draft.transaction && this.#doneBefore(draft, draft.transaction);
    if (done !== undefined) return done;
    const state = registry.get(draft.roomId);
    const candidate = { ...draft, stateKey: draft.stateKey ?? null };
    authorizeEvent(state, candidate, (roomId, userId) => registry.isJoined(roomId, userId));
    const same = draft.stateKey === undefined ? undefined : state.get(draft.type, draft.stateKey);
    if (same !== undefined && same.sender === draft.sender && Bun.deepEquals(same.content, draft.content))
      return same;
    return db.transaction(() => {
      const event = this.#store(state, draft, contentJson);
      if (draft.redacts !== undefined)
        this.#redact(state, draft.redacts, event.eventId, events.byId(draft.redacts));
      return event;
    });
  }

  #doneBefore(draft: EventDraft, transaction: { deviceId: string; txnId: string }): RoomEvent | undefined {
    const { events } = this.#deps;
    const { deviceId, txnId } = transaction;
    if (Buffer.byteLength(txnId) > 255) throw invalidParam("The transaction ID is longer than 255 bytes");
    const eventId = events.byTransaction(draft.sender, deviceId, txnId, draft.roomId, draft.type);
    return eventId === undefined ? undefined : events.byId(eventId);
  }

  #store(state: RoomState, draft: EventDraft, contentJson: string): RoomEvent {
    const { db, clock, events, registry } = this.#deps;
    const stateKey = draft.stateKey ?? null;
    const event: RoomEvent = {
      stream: db.advance(),
      eventId: `$${randomToken(32)}`,
      roomId: draft.roomId,
      type: draft.type,
      stateKey,
      sender: draft.sender,
      content: draft.content,
      originServerTs: clock.now(),
      replaces: stateKey === null ? null : (state.get(draft.type, stateKey)?.stream ?? null),
      redacts: draft.redacts ?? null,
      redactedBy: null,
      txnDevice: draft.transaction?.deviceId ?? null,
      txnId: draft.transaction?.txnId ?? null,
    };
    events.insert(event, contentJson, relationOf(event));
    registry.appended(state, event);
    if (event.type === "m.room.member" && stateKey !== null) {
      registry.setMembership(stateKey, event.roomId, membershipOf(event.content), event.stream);
    }
    db.afterCommit(() => this.#deps.onEvent(event));
    return event;
  }

  #redact(state: RoomState, targetId: string, redactionId: string, target: RoomEvent | undefined): void {
    if (target === undefined || target.roomId !== state.roomId) return;
    const content = redactedContent(target.type, target.content, state.version);
    this.#deps.events.redact(target, content, redactionId);
    this.#deps.registry.replaced(state, { ...target, eventId: targetId, content, redactedBy: redactionId });
  }
}

function relationOf(event: RoomEvent): Relation | undefined {
  if (event.stateKey !== null) return undefined;
  const relatesTo = objectField(event.content, "m.relates_to");
  const eventId = relatesTo && stringField(relatesTo, "event_id");
  const relType = relatesTo && stringField(relatesTo, "rel_type");
  return eventId === undefined || relType === undefined ? undefined : { eventId, relType };
}
