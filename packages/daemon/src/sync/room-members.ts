/**
 * Who is in the rooms that have a policy. /sync sends the daemon no lists of members: those of shared rooms grow with the
 * fleet. So the daemon asks for the list of such a room once, and again after each change of a membership in it, which
 * /sync does send. A member that leaves is taken out at once.
 */
import { delayMs, standardBackoff } from "@bureau/kit/backoff";
import type { Runtime } from "@bureau/kit/runtime";
import type { MatrixSession } from "@bureau/matrix/session";
import type { SyncResponse } from "@bureau/matrix/sync-response";
import { eventTypes } from "@bureau/schema/events";
import type { RoomId, UserId } from "@bureau/schema/refs";

export type RoomMembersDeps = Runtime & {
  readonly session: Pick<MatrixSession, "joinedMembers">;
  /** Called when a list is another one. */
  readonly onChange: () => void;
};

/** What others may read. */
export type Members = {
  /** Undefined until the room's list is known, and for rooms that are not wanted. */
  of(room: RoomId): ReadonlySet<UserId> | undefined;
  /** Another number after every change. */
  readonly revision: number;
};

type Entry = { members: ReadonlySet<UserId> | undefined; isStale: boolean; isAsking: boolean };

export class RoomMembers implements Members {
  readonly #deps: RoomMembersDeps;
  readonly #entries = new Map<RoomId, Entry>();
  readonly #stop = new AbortController();
  #revision = 0;

  constructor(deps: RoomMembersDeps) {
    this.#deps = deps;
  }

  get revision(): number {
    return this.#revision;
  }

  of(room: RoomId): ReadonlySet<UserId> | undefined {
    return this.#entries.get(room)?.members;
  }

  /** Starts to follow the rooms that are not followed yet, and forgets the others. */
  want(rooms: ReadonlySet<RoomId>): void {
    for (const room of this.#entries.keys()) if (!rooms.has(room)) this.#entries.delete(room);
    for (const room of rooms) {
      if (this.#entries.has(room) || this.#stop.signal.aborted) continue;
      const entry: Entry = { members: undefined, isStale: true, isAsking: false };
      this.#entries.set(room, entry);
      this.#ask(room, entry);
    }
  }

  /** Takes in what an answer of /sync says of memberships. `initial`: it does not say what changed. */
  note({ joined }: SyncResponse, initial: boolean): void {
    for (const [room, entry] of this.#entries) {
      const { state = [], timeline = [], limited = initial } = joined.get(room) ?? {};
      const changes = [...state, ...timeline].filter(({ type }) => type === eventTypes.member);
      if (changes.length === 0 && !limited && !initial) continue;
      const gone = new Set(
        changes.filter(({ content }) => content["membership"] !== "join").map(({ stateKey }) => stateKey),
      );
      if (entry.members !== undefined && gone.size > 0)
        this.#set(entry, new Set([...entry.members].filter((user) => !gone.has(user))));
      this.#lookAgain(room, entry);
    }
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
  }

  #lookAgain(room: RoomId, entry: Entry): void {
    const isLooking = entry.isStale || entry.isAsking;
    entry.isStale = true;
    if (!isLooking) this.#ask(room, entry);
  }

  #set(entry: Entry, members: ReadonlySet<UserId>): void {
    entry.members = members;
    this.#revision++;
  }

  #ask(room: RoomId, entry: Entry): void {
    entry.isAsking = true;
    this.#follow(room, entry).catch((error: unknown) =>
      this.#deps.log.error("room.members-failed", "cannot list the members of a room", { room, error }),
    );
  }

  /** Until the list is as new as the last change. A change that comes after the last look is asked for by its own call. */
  async #follow(room: RoomId, entry: Entry): Promise<void> {
    const { session, clock, random, log, onChange } = this.#deps;
    const { signal } = this.#stop;
    let attempt = 0;
    try {
      while (entry.isStale && this.#entries.get(room) === entry && !signal.aborted) {
        entry.isStale = false;
        try {
          const members = await session.joinedMembers(room, signal);
          attempt = 0;
          // A membership changed meanwhile: the list may be from before.
          if (entry.isStale) continue;
          this.#set(entry, new Set(members));
          onChange();
        } catch (error) {
          if (signal.aborted) return;
          entry.isStale = true;
          log.warn("room.members-failed", "cannot list the members of a room; trying again", { room, error });
          await clock.sleep(delayMs(standardBackoff, attempt++, random), signal);
        }
      }
    } finally {
      entry.isAsking = false;
    }
  }
}
