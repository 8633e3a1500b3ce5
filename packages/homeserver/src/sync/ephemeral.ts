/**
 * Typing and presence: kept in memory only, gone with the process. Changes are counted for this run of the server,
 * so that /sync finds new ones. A timer runs only while a user types.
 */
import { randomBytes } from "node:crypto";
import type { Clock } from "@bureau/kit/clock";

export type PresenceState = "online" | "unavailable" | "offline";
export type Presence = {
  readonly presence: PresenceState;
  readonly statusMsg: string | undefined;
  /** Milliseconds since the epoch. */
  readonly lastActive: number;
  readonly mark: number;
};

/** Maximum milliseconds of one typing notification. */
const TYPING_MS_MAX = 120_000;
/** Maximum users with presence. */
const PRESENCE_USERS_MAX = 10_000;

type Typing = { readonly users: Map<string, number>; mark: number };

export class Ephemeral {
  /** Identifies this run of the server in sync tokens. */
  readonly run = randomBytes(4).readUInt32LE().toString(36);
  readonly #clock: Clock;
  readonly #onTyping: (roomId: string) => void;
  readonly #typing = new Map<string, Typing>();
  readonly #presence = new Map<string, Presence>();
  #position = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(clock: Clock, onTyping: (roomId: string) => void) {
    this.#clock = clock;
    this.#onTyping = onTyping;
  }

  get position(): number {
    return this.#position;
  }

  /** Sets that the user types for `timeoutMs`; 0 ends it. */
  setTyping(roomId: string, userId: string, timeoutMs: number): void {
    const room = this.#typing.get(roomId) ?? { users: new Map<string, number>(), mark: 0 };
    const was = room.users.has(userId);
    if (timeoutMs > 0) room.users.set(userId, this.#clock.now() + Math.min(timeoutMs, TYPING_MS_MAX));
    else room.users.delete(userId);
    this.#typing.set(roomId, room);
    if (was !== timeoutMs > 0) this.#typingChanged(roomId, room);
    this.#schedule();
  }

  /** The users who type, if that changed after `mark`. */
  typingSince(roomId: string, mark: number): string[] | undefined {
    const room = this.#typing.get(roomId);
    return room === undefined || room.mark <= mark ? undefined : [...room.users.keys()];
  }

  setPresence(userId: string, presence: PresenceState, statusMsg: string | undefined): void {
    if (this.#presence.size >= PRESENCE_USERS_MAX && !this.#presence.has(userId)) return;
    this.#position += 1;
    this.#presence.set(userId, { presence, statusMsg, lastActive: this.#clock.now(), mark: this.#position });
  }

  presenceOf(userId: string): Presence | undefined {
    return this.#presence.get(userId);
  }

  *presencesSince(mark: number): Generator<[userId: string, presence: Presence], void, undefined> {
    if (mark >= this.#position) return;
    for (const [userId, presence] of this.#presence) if (presence.mark > mark) yield [userId, presence];
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #typingChanged(roomId: string, room: Typing): void {
    this.#position += 1;
    room.mark = this.#position;
    this.#onTyping(roomId);
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const ends = [...this.#typing.values()].flatMap((room) => [...room.users.values()]);
    if (ends.length === 0) return;
    const waitMs = Math.max(1, Math.min(...ends) - this.#clock.now());
    this.#timer = setTimeout(() => this.#expire(), waitMs);
  }

  #expire(): void {
    const now = this.#clock.now();
    for (const [roomId, room] of this.#typing) {
      const before = room.users.size;
      for (const [userId, end] of room.users) if (end <= now) room.users.delete(userId);
      if (room.users.size !== before) this.#typingChanged(roomId, room);
    }
    this.#schedule();
  }
}
