/** One room's current state in memory, for authorization, state reads and sync. */
import { PowerLevels } from "./power-levels.ts";
import { type Membership, membershipOf, type RoomEvent, stringField } from "./room-event.ts";

export class RoomState {
  readonly #byType = new Map<string, Map<string, RoomEvent>>();
  #size = 0;

  constructor(
    readonly roomId: string,
    readonly version: string,
    readonly creator: string,
    events: Iterable<RoomEvent>,
  ) {
    for (const event of events) this.set(event);
  }

  /** Number of (type, state key) pairs. */
  get size(): number {
    return this.#size;
  }

  get(type: string, stateKey: string): RoomEvent | undefined {
    return this.#byType.get(type)?.get(stateKey);
  }

  set(event: RoomEvent): void {
    if (event.stateKey === null) return;
    const keys = this.#byType.get(event.type) ?? new Map<string, RoomEvent>();
    this.#byType.set(event.type, keys);
    if (!keys.has(event.stateKey)) this.#size += 1;
    keys.set(event.stateKey, event);
  }

  *all(): Generator<RoomEvent, void, undefined> {
    for (const keys of this.#byType.values()) yield* keys.values();
  }

  *ofType(type: string): Generator<RoomEvent, void, undefined> {
    yield* this.#byType.get(type)?.values() ?? [];
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
