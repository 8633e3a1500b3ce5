/**
 * Rooms by alias, resolved and joined in the background once they are wanted. A lookup never waits. A missing room is
 * looked for again at intervals, and at once after an invitation.
 */
import { delayMs } from "@bureau/kit/backoff";
import type { Runtime } from "@bureau/kit/runtime";
import { isTransient } from "@bureau/matrix/matrix-error";
import type { MatrixSession } from "@bureau/matrix/session";
import type { RoomAlias, RoomId } from "@bureau/schema/refs";
import type { RoomLookup } from "../desired/snapshot.ts";

/** Looking again: soon at first, for a room that is just being made. */
const searchAgain = { firstMs: 2_000, maxMs: 60_000 };

export type RoomDirectoryDeps = Runtime & {
  readonly session: Pick<MatrixSession, "resolveAlias" | "joinRoom">;
  /** Whether the machine is in the room, as far as synced. */
  readonly isJoined: (room: RoomId) => boolean;
  /** Called when a lookup has a new answer. */
  readonly onChange: () => void;
};

type Entry = { lookup: RoomLookup; retry: AbortController };

export class RoomDirectory {
  readonly #deps: RoomDirectoryDeps;
  readonly #entries = new Map<RoomAlias, Entry>();
  readonly #stop = new AbortController();
  #revision = 0;

  constructor(deps: RoomDirectoryDeps) {
    this.#deps = deps;
  }

  /** Another number after every change of a lookup. */
  get revision(): number {
    return this.#revision;
  }

  lookup(alias: RoomAlias): RoomLookup {
    return this.#entries.get(alias)?.lookup ?? { kind: "pending" };
  }

  /** Every room that is wanted, and what is known of it. */
  lookups(): Record<RoomAlias, RoomLookup> {
    return Object.fromEntries([...this.#entries].map(([alias, { lookup }]) => [alias, lookup]));
  }

  /** Starts looking for those not known; stops looking for those no longer wanted. Rooms once joined stay known. */
  want(aliases: ReadonlySet<RoomAlias>): void {
    for (const [alias, entry] of this.#entries) {
      if (aliases.has(alias) || entry.lookup.kind === "joined") continue;
      this.#entries.delete(alias);
      this.#revision++;
      entry.retry.abort();
    }
    for (const alias of aliases) {
      if (this.#entries.has(alias) || this.#stop.signal.aborted) continue;
      const entry: Entry = { lookup: { kind: "pending" }, retry: new AbortController() };
      this.#entries.set(alias, entry);
      this.#search(alias, entry).catch((error: unknown) =>
        this.#deps.log.error("room.lookup-failed", "cannot look for a room", { alias, error }),
      );
    }
  }

  /** An invitation came: rooms that could not be joined may be joined now. */
  lookAgain(): void {
    for (const entry of this.#entries.values()) if (entry.lookup.kind !== "joined") this.#nudge(entry);
  }

  /** The machine is no longer in this room: it is looked for again. */
  left(room: RoomId): void {
    for (const [alias, { lookup }] of this.#entries)
      if (lookup.kind === "joined" && lookup.room === room) {
        this.#entries.delete(alias);
        this.#revision++;
      }
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
    for (const entry of this.#entries.values()) entry.retry.abort();
  }

  #nudge(entry: Entry): void {
    const waiting = entry.retry;
    entry.retry = new AbortController();
    waiting.abort();
  }

  async #search(alias: RoomAlias, entry: Entry): Promise<void> {
    const { clock, random, onChange } = this.#deps;
    for (let attempt = 0; this.#isWanted(alias, entry); attempt++) {
      const found = await this.#lookFor(alias);
      if (!this.#isWanted(alias, entry)) return;
      const changed = JSON.stringify(found) !== JSON.stringify(entry.lookup);
      if (changed) {
        entry.lookup = found;
        this.#revision++;
        onChange();
      }
      if (found.kind === "joined") return;
      await clock.sleep(delayMs(searchAgain, attempt, random), entry.retry.signal);
    }
  }

  #isWanted(alias: RoomAlias, entry: Entry): boolean {
    return !this.#stop.signal.aborted && this.#entries.get(alias) === entry;
  }

  async #lookFor(alias: RoomAlias): Promise<RoomLookup> {
    const { session, isJoined } = this.#deps;
    const { signal } = this.#stop;
    try {
      const room = await session.resolveAlias(alias, signal);
      if (room === undefined) return { kind: "missing", reason: `there is no room ${alias}` };
      if (!isJoined(room)) await session.joinRoom(room, signal);
      return { kind: "joined", room };
    } catch (error) {
      if (isTransient(error)) return { kind: "pending" };
      return { kind: "missing", reason: `this machine may not join ${alias}; invite it` };
    }
  }
}
