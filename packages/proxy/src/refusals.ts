/**
 * Acts that this proxy refused, until the machine's daemon has them in its audit log. Equal ones are counted, and the
 * kinds are limited: a program that repeats a denied act takes no memory and no time. The proxy pokes the daemon after a
 * refusal, at most once a second; without refusals it does nothing.
 *
 * The daemon gets a batch, and drops it once it is on the disk. A batch that was not dropped is given again, so a daemon
 * that was killed in between loses nothing.
 */
import type { Refusal, RefusalBatch } from "@bureau/schema/proxy-wire";

/** Kinds beyond them are counted together. */
const KINDS_MAX = 64;
const POKE_MS = 1_000;
const TEXT_CHARS_MAX = 200;

/** What was refused: an act of this proxy's principal. */
export type Refused = Omit<Refusal, "count" | "first" | "last">;

export class Refusals {
  readonly #poke: () => void;
  readonly #now: () => number;
  #kinds = new Map<
    string,
    { count: number; last: string; readonly first: string; readonly refused: Refused }
  >();
  #given: RefusalBatch | undefined;
  /** Another proxy of this principal has other batches. */
  readonly #name = crypto.getRandomValues(new Uint8Array(4)).toHex();
  #batches = 0;
  #pokeAt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `poke` tells the daemon that there is something, and may fail without a word: the next refusal pokes again. */
  constructor(poke: () => void, now: () => number) {
    this.#poke = poke;
    this.#now = now;
  }

  note(act: Refused): void {
    const refused = shortened(act);
    const now = this.#now();
    const time = new Date(now).toISOString();
    const exact = JSON.stringify([refused.point, refused.action, refused.target, refused.reason]);
    const isKnown = this.#kinds.has(exact);
    const key = isKnown || this.#kinds.size < KINDS_MAX ? exact : refused.point;
    const kind = this.#kinds.get(key);
    if (kind === undefined)
      this.#kinds.set(key, {
        count: 1,
        first: time,
        last: time,
        refused: key === exact ? refused : others(refused),
      });
    else {
      kind.count++;
      kind.last = time;
    }
    this.#pokeSoon(now);
  }

  /** What the daemon has not dropped; the same batch until it has. */
  give(): RefusalBatch {
    if (this.#given !== undefined) return this.#given;
    const refusals = [...this.#kinds.values()].map(
      ({ refused, count, first, last }): Refusal => ({ ...refused, count, first, last }),
    );
    const batch = { batch: `${this.#name}-${++this.#batches}`, refusals };
    if (refusals.length > 0) this.#given = batch;
    this.#kinds = new Map();
    return batch;
  }

  /** The daemon has it. False when another batch, or none, was given last. */
  drop(batch: string): boolean {
    if (this.#given?.batch !== batch) return false;
    this.#given = undefined;
    return true;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #pokeSoon(now: number): void {
    if (this.#timer !== undefined) return;
    const waitMs = Math.min(Math.max(this.#pokeAt - now, 0), POKE_MS);
    this.#pokeAt = now + waitMs + POKE_MS;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#poke();
    }, waitMs);
    this.#timer.unref();
  }
}

/** What names the act may come from the sandbox. */
const shortened = ({ point, action, target, reason, detail }: Refused): Refused => ({
  point,
  reason: reason.slice(0, TEXT_CHARS_MAX),
  action: action.slice(0, TEXT_CHARS_MAX),
  ...(target === undefined ? {} : { target: target.slice(0, TEXT_CHARS_MAX) }),
  ...(detail === undefined ? {} : { detail: detail.slice(0, TEXT_CHARS_MAX) }),
});

const others = ({ point }: Refused): Refused => ({
  point,
  action: "**",
  reason: `other acts: more than ${KINDS_MAX} kinds at once`,
});
