/**
 * A cache of rooms and memberships over the store: current state of rooms, the memberships of users, and the stream of
 * each room's newest event, which lets a /sync with nothing new finish without a query. Only the writer changes it.
 */
import { forbidden } from "../http/matrix-error.ts";
import { BoundedCache } from "../store/bounded-cache.ts";
import type { HomeserverDatabase } from "../store/database.ts";
import type { EventStore } from "../store/event-store.ts";
import type { RoomStore } from "../store/room-store.ts";
import type { Membership, RoomEvent } from "./room-event.ts";
import { RoomState } from "./room-state.ts";

export type MembershipEntry = {
  readonly membership: Membership;
  /** Stream of the membership event. */
  readonly stream: number;
  readonly forgotten: boolean;
};

/** Maximum state events in memory, of about a kilobyte: those of five thousand machines. */
const STATE_EVENTS_CACHED_MAX = 200_000;
/** Maximum memberships in memory, of about 150 bytes. */
const MEMBERSHIPS_CACHED_MAX = 200_000;

export class RoomRegistry {
  readonly #db: HomeserverDatabase;
  readonly #events: EventStore;
  readonly #rooms: RoomStore;
  readonly #states = new BoundedCache<RoomState>(STATE_EVENTS_CACHED_MAX, (state) => state.size + 1);
  readonly #memberships = new BoundedCache<Map<string, MembershipEntry>>(
    MEMBERSHIPS_CACHED_MAX,
    (map) => map.size + 1,
  );
  readonly #lastStream = new Map<string, number>();

  constructor(db: HomeserverDatabase, events: EventStore, rooms: RoomStore) {
    this.#db = db;
    this.#events = events;
    this.#rooms = rooms;
    for (const row of rooms.lastStreams()) this.#lastStream.set(row.room_id, row.last);
  }

  /** Current state, or undefined for an unknown room. */
  find(roomId: string): RoomState | undefined {
    const cached = this.#states.get(roomId);
    if (cached !== undefined) return cached;
    const row = this.#rooms.room(roomId);
    if (row === undefined) return undefined;
    const state = new RoomState(roomId, row.version, row.creator, this.#events.currentState(roomId));
    this.#states.set(roomId, state);
    return state;
  }

  /** As {@link find}; throws M_FORBIDDEN for an unknown room, as for a room that the caller may not see. */
  get(roomId: string): RoomState {
    const state = this.find(roomId);
    if (state === undefined) throw forbidden(`You are not in room ${roomId}`);
    return state;
  }

  /** Stream of the newest event; 0 for an unknown room. */
  lastStream(roomId: string): number {
    return this.#lastStream.get(roomId) ?? 0;
  }

  membershipsOf(userId: string): ReadonlyMap<string, MembershipEntry> {
    return this.#membershipMap(userId);
  }

  /** IDs of the rooms that the user has joined. */
  *joinedRooms(userId: string): Generator<string, void, undefined> {
    for (const [roomId, entry] of this.#membershipMap(userId)) if (entry.membership === "join") yield roomId;
  }

  isJoined(roomId: string, userId: string): boolean {
    return this.#membershipMap(userId).get(roomId)?.membership === "join";
  }

  /** Whether two users are joined to a room together. */
  shareRoom(one: string, other: string): boolean {
    const others = this.#membershipMap(other);
    for (const [roomId, entry] of this.#membershipMap(one)) {
      if (entry.membership === "join" && others.get(roomId)?.membership === "join") return true;
    }
    return false;
  }

  /** For the writer: a room was just inserted. */
  created(roomId: string, version: string, creator: string): RoomState {
    const state = new RoomState(roomId, version, creator, []);
    this.#states.set(roomId, state);
    this.#db.onRollback(() => {
      this.#states.delete(roomId);
      this.#lastStream.delete(roomId);
    });
    return state;
  }

  /** For the writer: `event` was just stored. Undone if the transaction fails. */
  appended(state: RoomState, event: RoomEvent): void {
    const before = this.lastStream(event.roomId);
    this.#lastStream.set(event.roomId, event.stream);
    if (event.stateKey !== null) this.#setState(state, event);
    this.#db.onRollback(() => {
      this.#lastStream.set(event.roomId, before);
      this.#states.delete(event.roomId);
    });
  }

  /** For the writer: a state event was redacted. */
  replaced(state: RoomState, event: RoomEvent): void {
    if (event.stateKey === null || state.get(event.type, event.stateKey)?.stream !== event.stream) return;
    state.set(event);
    this.#db.onRollback(() => this.#states.delete(event.roomId));
  }

  /** For the writer: a membership changed. */
  setMembership(userId: string, roomId: string, membership: Membership, stream: number): void {
    const map = this.#membershipMap(userId);
    this.#rooms.setMembership(userId, roomId, membership, stream);
    const isNew = !map.has(roomId);
    map.set(roomId, { membership, stream, forgotten: false });
    if (isNew) this.#memberships.set(userId, map);
    this.#db.onRollback(() => this.#memberships.delete(userId));
  }

  /** Hides a left room from its former member. */
  forget(userId: string, roomId: string): void {
    const entry = this.#membershipMap(userId).get(roomId);
    if (entry === undefined) return;
    this.#rooms.forget(userId, roomId);
    this.#membershipMap(userId).set(roomId, { ...entry, forgotten: true });
  }

  #membershipMap(userId: string): Map<string, MembershipEntry> {
    const cached = this.#memberships.get(userId);
    if (cached !== undefined) return cached;
    const map = new Map<string, MembershipEntry>();
    for (const row of this.#rooms.memberships(userId)) {
      map.set(row.room_id, {
        membership: row.membership,
        stream: row.stream,
        forgotten: row.forgotten === 1,
      });
    }
    this.#memberships.set(userId, map);
    return map;
  }

  #setState(state: RoomState, event: RoomEvent): void {
    const { size } = state;
    state.set(event);
    if (state.size > size) this.#states.set(state.roomId, state);
  }
}
