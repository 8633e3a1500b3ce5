/**
 * The current state of every joined room, in memory, built from /sync alone. Shows events of our own types only from
 * senders that may write them (schema/event-writers). Other events of these types count as absent, and are reported once.
 *
 * Applies a sync response in its order: `state` (changes before the timeline), then the state events of the timeline, so
 * that a limited timeline leaves no gap. Removes a room that the account left.
 */
import { canonicalJson } from "@bureau/kit/canonical-json";
import { counts, ignoredBecause } from "@bureau/schema/event-writers";
import { eventTypes, isCleared } from "@bureau/schema/events";
import { powerIn } from "@bureau/schema/power";
import type { RoomId } from "@bureau/schema/refs";
import type { StateEvent } from "./event.ts";
import type { SyncResponse } from "./sync-response.ts";

/** Reads one room's current state: the events that count. */
export type RoomView = {
  get(type: string, stateKey: string): StateEvent | undefined;
  /** A user's power there. */
  levelOf(user: string): number;
  /** Every state event of a type, in no particular order. */
  ofType(type: string): StateEvent[];
};

/** What others may read: the daemon's pure functions take this, not the store. */
export type RoomStates = {
  /** Undefined: we are not joined, as far as /sync has told us. */
  room(id: RoomId): RoomView | undefined;
  joinedRooms(): RoomId[];
  /** Another number after every change of what the rooms show. An event that did not change stays the same object. */
  readonly revision: number;
  /** Whether such events are kept: the presence of other events is unknown. */
  keeps(type: string, stateKey: string): boolean;
};

/** Which events a store keeps. */
export type Keeps = (type: string, stateKey: string) => boolean;

/** The maximum size of one room's events, as JSON. A machine with a thousand principals has some 5 MiB. */
const ROOM_BYTES_MAX = 64 * 1024 * 1024;

/** Type → state key → event. */
type State = ReadonlyMap<string, ReadonlyMap<string, StateEvent>>;

/** Receives a sentence on each event that does not count, with the reason. */
export type OnIgnored = (sentence: string) => void;

/** Number of reported sentences to remember. */
const TOLD_MAX = 1_000;

/** Reports each sentence once, also when the event is written repeatedly. */
export function tellOnce(tell: OnIgnored): OnIgnored {
  const told = new Set<string>();
  return (sentence) => {
    if (told.has(sentence)) return;
    if (told.size >= TOLD_MAX) told.clear();
    told.add(sentence);
    tell(sentence);
  };
}

/** A room's state without the events that do not count. */
function viewState(types: State, onIgnored: OnIgnored): RoomView {
  let power: ((user: string) => number) | undefined;
  const levelOf = (user: string): number => {
    power ??= powerIn({
      levels: types.get(eventTypes.powerLevels)?.get("")?.content,
      create: types.get("m.room.create")?.get(""),
    });
    return power(user);
  };
  const isShown = (event: StateEvent): boolean => {
    if (counts(event, levelOf)) return true;
    // Empty content counts as absent, from every sender.
    if (!isCleared(event.content)) onIgnored(ignoredBecause(event));
    return false;
  };
  return {
    levelOf,
    get(type, stateKey) {
      const event = types.get(type)?.get(stateKey);
      return event !== undefined && isShown(event) ? event : undefined;
    },
    ofType: (type) => [...(types.get(type)?.values() ?? [])].filter(isShown),
  };
}

/** The same, of events as a homeserver lists them. */
export function viewEvents(events: readonly StateEvent[], onIgnored: OnIgnored): RoomView {
  const types = new Map<string, Map<string, StateEvent>>();
  for (const event of events) {
    const keys = types.get(event.type) ?? new Map<string, StateEvent>();
    types.set(event.type, keys.set(event.stateKey, event));
  }
  return viewState(types, onIgnored);
}

export class RoomStateStore implements RoomStates {
  readonly #rooms = new Map<RoomId, Map<string, Map<string, StateEvent>>>();
  readonly #bytes = new Map<RoomId, number>();
  /** Of rooms that did not change since they were asked for: a view reads the room's levels once. */
  readonly #views = new Map<RoomId, RoomView>();
  #revision = 0;
  readonly #onIgnored: OnIgnored;
  #keeps: Keeps = () => true;

  constructor(onIgnored: OnIgnored = () => {}) {
    this.#onIgnored = tellOnce(onIgnored);
  }

  /** Applies one answer; returns the rooms whose state changed, those that were left among them. */
  apply(response: SyncResponse): Set<RoomId> {
    const changed = new Set<RoomId>();
    for (const [room, update] of response.joined) {
      if (!this.#rooms.has(room)) changed.add(room);
      for (const event of update.state) if (this.#put(room, event)) changed.add(room);
      for (const event of update.timeline) {
        if (event.stateKey !== undefined && this.#put(room, { ...event, stateKey: event.stateKey }))
          changed.add(room);
        if (event.type === "m.room.redaction" && event.redacts !== undefined)
          if (this.#redact(room, event.redacts)) changed.add(room);
      }
      if (!this.#rooms.has(room)) this.#rooms.set(room, new Map());
    }
    for (const room of response.left) {
      this.#bytes.delete(room);
      if (this.#rooms.delete(room)) changed.add(room);
    }
    for (const room of changed) this.#views.delete(room);
    if (changed.size > 0) this.#revision++;
    return changed;
  }

  get revision(): number {
    return this.#revision;
  }

  keeps(type: string, stateKey: string): boolean {
    return this.#keeps(type, stateKey);
  }

  room(id: RoomId): RoomView | undefined {
    const known = this.#views.get(id);
    const types = this.#rooms.get(id);
    if (known !== undefined || types === undefined) return known;
    const view = viewState(types, this.#onIgnored);
    this.#views.set(id, view);
    return view;
  }

  joinedRooms(): RoomId[] {
    return [...this.#rooms.keys()];
  }

  /** How many state events of each type the room has, those that do not count included. */
  counts(id: RoomId): Record<string, number> {
    return Object.fromEntries([...(this.#rooms.get(id) ?? [])].map(([type, keys]) => [type, keys.size]));
  }

  /** Before an initial sync: drops all rooms. From then on keeps only events that `keeps` accepts. */
  begin(keeps: Keeps = () => true): void {
    this.#rooms.clear();
    this.#bytes.clear();
    this.#views.clear();
    this.#revision++;
    this.#keeps = keeps;
  }

  #put(room: RoomId, event: StateEvent): boolean {
    if (!this.#keeps(event.type, event.stateKey)) return false;
    const types = this.#rooms.get(room) ?? new Map<string, Map<string, StateEvent>>();
    this.#rooms.set(room, types);
    const keys = types.get(event.type) ?? new Map<string, StateEvent>();
    types.set(event.type, keys);
    const before = keys.get(event.stateKey);
    // The same event comes again, emptied, when it was redacted in a part of the timeline that we did not get.
    const isSame =
      before !== undefined &&
      event.eventId !== "" &&
      before.eventId === event.eventId &&
      before.sender === event.sender &&
      canonicalJson(before.content) === canonicalJson(event.content);
    if (isSame || !this.#fits(room, event, before)) return false;
    keys.set(event.stateKey, event);
    return true;
  }

  /** A user who floods a room makes only that room unusable. */
  #fits(room: RoomId, event: StateEvent, before: StateEvent | undefined): boolean {
    const bytes = (this.#bytes.get(room) ?? 0) + sizeOf(event) - (before === undefined ? 0 : sizeOf(before));
    if (bytes > ROOM_BYTES_MAX && before === undefined) {
      this.#onIgnored(`the room ${room} holds more state than ${ROOM_BYTES_MAX} bytes: the rest is not read`);
      return false;
    }
    this.#bytes.set(room, bytes);
    return true;
  }

  /** A redacted event is still the current one, but says nothing any more. What the room itself needs is left alone. */
  #redact(room: RoomId, eventId: string): boolean {
    for (const [type, keys] of this.#rooms.get(room) ?? []) {
      if (type.startsWith("m.room.")) continue;
      for (const [key, event] of keys) {
        if (event.eventId !== eventId) continue;
        keys.set(key, { ...event, content: {} });
        return true;
      }
    }
    return false;
  }
}

/** Approximate size of an event as JSON, in bytes. */
const sizeOf = (event: StateEvent): number => JSON.stringify(event).length;
