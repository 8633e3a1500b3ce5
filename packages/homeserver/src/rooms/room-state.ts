/** One room's current state in memory, for authorization, state reads and sync. */
import { PowerLevels } from "./power-levels.ts";
import { type Membership, membershipOf, type RoomEvent, stringField } from "./room-event.ts";

export class RoomState {
  readonly #byType = new Map<string, Map<string, RoomEvent>>();
  /** The same events, by stream. */
  readonly #byStream: RoomEvent[] = [];
  /** Counted when first asked for, and again after a change of a member. */
  #memberCounts: { join: number; invite: number } | undefined;
  readonly #redacted = new Map<string, RoomEvent>();

  constructor(
    readonly roomId: string,
    readonly version: string,
    readonly creator: string,
    /** Oldest first. */
    events: Iterable<RoomEvent>,
  ) {
    for (const event of events) this.set(event);
  }

  /** Number of (type, state key) pairs. */
  get size(): number {
    return this.#byStream.length;
  }

  get(type: string, stateKey: string): RoomEvent | undefined {
    return this.#byType.get(type)?.get(stateKey);
  }

  /** `event` is newer than all that were set before, or a redacted form of one of them. */
  set(event: RoomEvent): void {
    if (event.stateKey === null) return;
    if (event.type === "m.room.member") this.#memberCounts = undefined;
    const keys = this.#byType.get(event.type) ?? new Map<string, RoomEvent>();
    this.#byType.set(event.type, keys);
    const before = keys.get(event.stateKey);
    keys.set(event.stateKey, event);
    const place = before === undefined ? -1 : this.#byStream.lastIndexOf(before);
    if (before?.stream === event.stream) this.#byStream[place] = event;
    else {
      if (place >= 0) this.#byStream.splice(place, 1);
      this.#byStream.push(event);
    }
    const name = `${event.type}\0${event.stateKey}`;
    if (event.redactedBy !== null) this.#redacted.set(name, event);
    else if (this.#redacted.size > 0) this.#redacted.delete(name);
  }

  /** State that changed after the stream position, oldest first. */
  changedSince(stream: number): RoomEvent[] {
    let first = this.#byStream.length;
    while (first > 0 && (this.#byStream[first - 1]?.stream ?? 0) > stream) first -= 1;
    return this.#byStream.slice(first);
  }

  /** Current state events that were redacted. */
  redacted(): Iterable<RoomEvent> {
    return this.#redacted.values();
  }

  *all(): Generator<RoomEvent, void, undefined> {
    for (const keys of this.#byType.values()) yield* keys.values();
  }

  *ofType(type: string): Generator<RoomEvent, void, undefined> {
    yield* this.#byType.get(type)?.values() ?? [];
  }

  /** Current events of these types; a type that is listed twice counts once. */
  *ofTypes(types: readonly string[]): Generator<RoomEvent, void, undefined> {
    for (const type of new Set(types)) yield* this.ofType(type);
  }

  /** How many users are joined and invited. */
  get memberCounts(): { readonly join: number; readonly invite: number } {
    if (this.#memberCounts === undefined) {
      const counts = { join: 0, invite: 0 };
      for (const { content } of this.ofType("m.room.member")) {
        const membership = membershipOf(content);
        if (membership === "join" || membership === "invite") counts[membership] += 1;
      }
      this.#memberCounts = counts;
    }
    return this.#memberCounts;
  }

  /** undefined when the user has no member event. */
  membership(userId: string): Membership | undefined {
    const event = this.get("m.room.member", userId);
    return event === undefined ? undefined : membershipOf(event.content);
  }

  *membersWith(membership: Membership): Generator<string, void, undefined> {
    for (const event of this.ofType("m.room.member")) {
      if (event.stateKey !== null && membershipOf(event.content) === membership) yield event.stateKey;
    }
  }

  powerLevels(): PowerLevels {
    return new PowerLevels(this.get("m.room.power_levels", "")?.content, this.creator);
  }

  historyVisibility(): string {
    const content = this.get("m.room.history_visibility", "")?.content;
    return (content && stringField(content, "history_visibility")) ?? "shared";
  }
}
