/**
 * Long polls that wait for news. The notifier asks the filter of a long poll before it wakes it: a heartbeat that no filter
 * passes wakes no client. Long polls are kept by room, and in a room by filter, so one event costs one question for each
 * different filter of its room, however many clients wait.
 *
 * Always holds: an event that can appear in an answer to a long poll wakes it. A wake-up without news is harmless: the
 * answer is empty, and the long poll waits again. A wake-up resolves at once; the only timers are the timeouts.
 */
import type { RoomEvent } from "../rooms/room-event.ts";
import type { RoomFilter } from "./event-filter.ts";

/** What one long poll waits for. */
export type Interest = {
  readonly userId: string;
  readonly deviceId: string;
  readonly filter: RoomFilter;
  readonly wantsPresence: boolean;
  /** The client knows the device lists of this position. */
  readonly listsKnownAt: number;
};

/** The position up to which no event is news for the long poll; undefined when that is not known. */
type QuietUpTo = number | undefined;

type Waiter = Interest & { readonly rooms: readonly string[]; readonly wake: (quietUpTo: QuietUpTo) => void };

/** Long polls of one room with equal filters. */
type Group = { readonly filter: RoomFilter; readonly waiters: Set<Waiter> };

export type NotifierDeps = {
  /** The newest stream position. */
  readonly position: () => number;
  readonly joinedRooms: (userId: string) => Iterable<string>;
  /** Position of the user's last change of device keys; 0 when there was none. */
  readonly listChangedAt: (userId: string) => number;
};

export class Notifier {
  readonly #deps: NotifierDeps;
  readonly #byUser = new Map<string, Set<Waiter>>();
  /** By room and then by the filter's key. */
  readonly #byRoom = new Map<string, Map<string, Group>>();
  #closed = false;

  constructor(deps: NotifierDeps) {
    this.#deps = deps;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Resolves on news, after `timeoutMs`, when `signal` aborts, or when the server stops. */
  wait(interest: Interest, timeoutMs: number, signal: AbortSignal): Promise<QuietUpTo> {
    if (this.#closed || signal.aborted || timeoutMs <= 0) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const wake = (quietUpTo: QuietUpTo): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
        this.#remove(waiter);
        resolve(quietUpTo);
      };
      const onAbort = (): void => wake(undefined);
      const waiter: Waiter = { ...interest, rooms: [...this.#deps.joinedRooms(interest.userId)], wake };
      // All events so far were asked about, so none of them is news.
      const timer = setTimeout(() => wake(this.#deps.position()), timeoutMs);
      signal.addEventListener("abort", onAbort, { once: true });
      this.#add(waiter);
    });
  }

  /** Wakes the user's long polls, or only those of one device. */
  wake(userId: string, deviceId?: string): void {
    for (const waiter of [...(this.#byUser.get(userId) ?? [])]) {
      if (deviceId === undefined || waiter.deviceId === deviceId) waiter.wake(undefined);
    }
  }

  /** Wakes the long polls that an event concerns. Call it once for each event, in order, when the event is durable. */
  wakeForEvent(event: RoomEvent): void {
    const quietUpTo = event.stream - 1;
    const isMember = event.type === "m.room.member";
    // A user's own membership decides which rooms the answer holds.
    if (isMember)
      for (const waiter of [...(this.#byUser.get(event.stateKey ?? "") ?? [])]) waiter.wake(quietUpTo);
    // A member whose keys changed earlier is new to those who now share a room.
    const listChangedAt = isMember ? this.#deps.listChangedAt(event.stateKey ?? "") : 0;
    for (const { filter, waiters } of this.#groupsOf(event.roomId)) {
      const isNews = changesOtherEvents(event) || filter.passes(event);
      if (!isNews && listChangedAt === 0) continue;
      for (const waiter of [...waiters])
        if (isNews || waiter.listsKnownAt < listChangedAt) waiter.wake(quietUpTo);
    }
  }

  /** Wakes the room's long polls whose filter passes an ephemeral event of this type. */
  wakeForEphemeral(roomId: string, type: "m.typing" | "m.receipt"): void {
    for (const { filter, waiters } of this.#groupsOf(roomId)) {
      if (!filter.passesEphemeral(type, roomId)) continue;
      for (const waiter of [...waiters]) waiter.wake(undefined);
    }
  }

  /** Wakes the user and all who share a room with them: their device keys changed. */
  wakeForDeviceList(userId: string): void {
    for (const waiter of this.#seenBy(userId)) waiter.wake(undefined);
  }

  /** As {@link wakeForDeviceList}, but only those whose filter passes presence. */
  wakeForPresence(userId: string): void {
    for (const waiter of this.#seenBy(userId)) if (waiter.wantsPresence) waiter.wake(undefined);
  }

  /** Wakes all long polls. Later ones return at once. */
  close(): void {
    this.#closed = true;
    for (const userId of [...this.#byUser.keys()]) this.wake(userId);
  }

  /** A copy, because a wake-up removes its waiter. */
  #groupsOf(roomId: string): Group[] {
    return [...(this.#byRoom.get(roomId)?.values() ?? [])];
  }

  #seenBy(userId: string): Set<Waiter> {
    const found = new Set(this.#byUser.get(userId));
    for (const roomId of this.#deps.joinedRooms(userId))
      for (const { waiters } of this.#groupsOf(roomId)) for (const waiter of waiters) found.add(waiter);
    return found;
  }

  #add(waiter: Waiter): void {
    const { userId, filter, rooms } = waiter;
    const own = this.#byUser.get(userId) ?? new Set();
    this.#byUser.set(userId, own.add(waiter));
    for (const roomId of rooms) {
      const groups = this.#byRoom.get(roomId) ?? new Map<string, Group>();
      this.#byRoom.set(roomId, groups);
      const group = groups.get(filter.key) ?? { filter, waiters: new Set() };
      groups.set(filter.key, group);
      group.waiters.add(waiter);
    }
  }

  #remove(waiter: Waiter): void {
    const { userId, filter, rooms } = waiter;
    const own = this.#byUser.get(userId);
    own?.delete(waiter);
    if (own?.size === 0) this.#byUser.delete(userId);
    for (const roomId of rooms) {
      const groups = this.#byRoom.get(roomId);
      const group = groups?.get(filter.key);
      group?.waiters.delete(waiter);
      if (group?.waiters.size === 0) groups?.delete(filter.key);
      if (groups?.size === 0) this.#byRoom.delete(roomId);
    }
  }
}

/** Whether the event changes what a client may see of other events, which a filter may pass although it drops this one. */
const changesOtherEvents = (event: RoomEvent): boolean =>
  event.redacts !== null || event.type === "m.room.history_visibility";
