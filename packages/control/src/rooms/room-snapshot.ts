/**
 * Some rooms, found by their aliases, and their events of some types, read in one request. An act that needs several of them
 * makes few requests, and decides on one state. What the snapshot does not have is read from the homeserver.
 *
 * A remembered room counts only when its own state says that it has that alias, and that it was not replaced. Else all
 * aliases are looked up again. A homeserver allows a room to name only an alias that stands for it.
 */
import { currentState, stateName } from "@bureau/matrix/current-state";
import type { StateEvent } from "@bureau/matrix/event";
import { type RoomView, viewEvents } from "@bureau/matrix/room-state";
import type { MatrixSession } from "@bureau/matrix/session";
import { countsByPower, isGuarded } from "@bureau/schema/event-writers";
import { eventTypes } from "@bureau/schema/events";
import { type Localpart, localpartOf, type RoomAlias, type RoomId, serverOf } from "@bureau/schema/refs";
import { narrowFilter } from "./narrow-filter.ts";
import { roomOf } from "./places.ts";
import type { RoomMemory } from "./room-memory.ts";

const CANONICAL_ALIAS = "m.room.canonical_alias";
const TOMBSTONE = "m.room.tombstone";
/** These decide which events count, and whether a remembered room is still the right one. */
const ALWAYS = [eventTypes.powerLevels, "m.room.create", CANONICAL_ALIAS, TOMBSTONE];

/** What reads single state events: a session, or a snapshot. */
export type StateReader = Pick<MatrixSession, "userId" | "stateEvent" | "counts" | "getState">;

type RoomEvents = { readonly events: ReadonlyMap<string, StateEvent>; readonly view: RoomView };

export class RoomSnapshot implements StateReader {
  readonly #session: MatrixSession;
  readonly #types: ReadonlySet<string>;
  readonly #ids: Map<RoomAlias, Promise<RoomId>>;
  readonly #rooms: ReadonlyMap<RoomId, RoomEvents>;

  private constructor(
    session: MatrixSession,
    types: readonly string[],
    ids: Map<RoomAlias, Promise<RoomId>>,
    rooms: ReadonlyMap<RoomId, RoomEvents>,
  ) {
    this.#session = session;
    this.#types = new Set([...types, ...ALWAYS]);
    this.#ids = ids;
    this.#rooms = rooms;
  }

  /** A room that does not exist is an error only for who asks for it ({@link roomOf}). */
  static async take(
    session: MatrixSession,
    aliases: readonly RoomAlias[],
    types: readonly string[],
    memory: RoomMemory,
  ): Promise<RoomSnapshot> {
    const wanted = [...new Set(aliases)];
    const recalled = new Map(wanted.map((alias) => [alias, memory.recall(alias)]));
    const snapshot = await RoomSnapshot.#read(session, recalled, types);
    const known = await snapshot.#verified(wanted);
    const isRecalled = (alias: RoomAlias): boolean => recalled.get(alias) !== undefined;
    if (wanted.some((alias) => isRecalled(alias) && !known.has(alias))) {
      const nothing = new Map(wanted.map((alias) => [alias, undefined]));
      const fresh = await RoomSnapshot.#read(session, nothing, types);
      memory.keep(await fresh.#verified(wanted));
      return fresh;
    }
    if (!wanted.every(isRecalled)) memory.keep(known);
    return snapshot;
  }

  static async #read(
    session: MatrixSession,
    recalled: ReadonlyMap<RoomAlias, RoomId | undefined>,
    types: readonly string[],
  ): Promise<RoomSnapshot> {
    const ids = new Map(
      [...recalled].map(([alias, room]) => [
        alias,
        room === undefined ? lookUp(session, alias) : Promise.resolve(room),
      ]),
    );
    const found = (await Promise.allSettled(ids.values())).flatMap((one) =>
      one.status === "fulfilled" ? [one.value] : [],
    );
    if (found.length === 0) return new RoomSnapshot(session, types, ids, new Map());
    const filter = narrowFilter([...types, ...ALWAYS], { rooms: found });
    const { joined } = await session.sync({ timeoutMs: 0, filter });
    const rooms = new Map(
      [...joined].map(([room, update]) => {
        const events = currentState(update);
        return [
          room,
          { events, view: viewEvents([...events.values()], (why) => session.reportIgnored(why)) },
        ];
      }),
    );
    return new RoomSnapshot(session, types, ids, rooms);
  }

  /** The aliases whose room says that it has them, and that it is the newest of its kind. */
  async #verified(aliases: readonly RoomAlias[]): Promise<ReadonlyMap<RoomAlias, RoomId>> {
    const known = new Map<RoomAlias, RoomId>();
    for (const alias of aliases) {
      const room = await this.#ids.get(alias)?.catch(() => undefined);
      const events = room === undefined ? undefined : this.#rooms.get(room)?.events;
      const named = events?.get(stateName(CANONICAL_ALIAS, ""))?.content["alias"];
      if (room !== undefined && named === alias && !events?.has(stateName(TOMBSTONE, "")))
        known.set(alias, room);
    }
    return known;
  }

  get userId(): MatrixSession["userId"] {
    return this.#session.userId;
  }

  /** @throws BureauError `not-found` as {@link roomOf} does */
  roomOf(alias: RoomAlias): Promise<RoomId> {
    const found = this.#ids.get(alias) ?? lookUp(this.#session, alias);
    this.#ids.set(alias, found);
    return found;
  }

  async stateEvent(room: RoomId, type: string, stateKey: string): Promise<StateEvent | undefined> {
    const events = this.#types.has(type) ? this.#rooms.get(room)?.events : undefined;
    if (events === undefined) return await this.#session.stateEvent(room, type, stateKey);
    return events.get(stateName(type, stateKey));
  }

  async counts(room: RoomId, event: Parameters<MatrixSession["counts"]>[1]): Promise<boolean> {
    const view = this.#rooms.get(room)?.view;
    const kept = this.#types.has(event.type) ? view : undefined;
    if (kept === undefined) return await this.#session.counts(room, event);
    // The homeserver has allowed our own events.
    if (event.sender === this.userId && countsByPower(event.type)) return true;
    return kept.get(event.type, event.stateKey) !== undefined;
  }

  async getState(room: RoomId, type: string, stateKey: string): Promise<unknown> {
    if (!this.#types.has(type) || !this.#rooms.has(room))
      return await this.#session.getState(room, type, stateKey);
    const event = await this.stateEvent(room, type, stateKey);
    if (event === undefined) return undefined;
    return !isGuarded(type) || (await this.counts(room, event)) ? event.content : undefined;
  }
}

const lookUp = (session: MatrixSession, alias: RoomAlias): Promise<RoomId> =>
  roomOf(session, localpartOf(alias) as Localpart, serverOf(alias));
