/**
 * The current state of every joined room, in memory, built from /sync alone.
 *
 * What /sync says is applied in its own order: `state` (what changed before the timeline) and then the state events of
 * the timeline, so a limited timeline leaves no gap. Leaving a room forgets it.
 */
import type { RoomId } from "@bureau/schema/refs";
import type { StateEvent } from "./event.ts";
import type { SyncResponse } from "./sync-response.ts";

/** Reads of one room's current state. */
export type RoomView = {
  get(type: string, stateKey: string): StateEvent | undefined;
  /** Every state event of a type, in no particular order. */
  ofType(type: string): StateEvent[];
};

/** What others may read: the daemon's pure functions take this, not the store. */
export type RoomStates = {
  /** Undefined: we are not joined, as far as /sync has told us. */
  room(id: RoomId): RoomView | undefined;
};

export class RoomStateStore implements RoomStates {
  readonly #rooms = new Map<RoomId, Map<string, Map<string, StateEvent>>>();

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
    for (const room of response.left) if (this.#rooms.delete(room)) changed.add(room);
    return changed;
  }

  room(id: RoomId): RoomView | undefined {
    const types = this.#rooms.get(id);
    if (types === undefined) return undefined;
    return {
      get: (type, stateKey) => types.get(type)?.get(stateKey),
      ofType: (type) => [...(types.get(type)?.values() ?? [])],
    };
  }

  joinedRooms(): RoomId[] {
    return [...this.#rooms.keys()];
  }

  /** Before an initial sync: what is not in its answer is no longer ours. */
  clear(): void {
    this.#rooms.clear();
  }

  #put(room: RoomId, event: StateEvent): boolean {
    const types = this.#rooms.get(room) ?? new Map<string, Map<string, StateEvent>>();
    this.#rooms.set(room, types);
    const keys = types.get(event.type) ?? new Map<string, StateEvent>();
    types.set(event.type, keys);
    const before = keys.get(event.stateKey);
    keys.set(event.stateKey, event);
    // The same event comes again, emptied, when it was redacted in a part of the timeline that we did not get.
    const same = before?.eventId === event.eventId && Bun.deepEquals(before.content, event.content);
    return !same || event.eventId === "";
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
