/** "Something changed": marked by anyone, waited for by one loop. Marks before the wait count; many are one. */
import type { Clock } from "@bureau/kit/clock";

/** A wait without an end is cut here: a timer holds no more than 2^31 − 1 ms. */
const FOREVER_MS = 2 ** 31 - 1;

export class Wakeup {
  readonly #clock: Clock;
  #marked = false;
  #wake = new AbortController();
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  mark(): void {
    this.#marked = true;
    this.#wake.abort();
  }

  /** Resolves when marked, or at `at` on the monotonic clock; then it is unmarked. */
  async wait(at: number | undefined): Promise<void> {
    if (!this.#marked) {
      const ms = at === undefined ? FOREVER_MS : Math.max(0, at - this.#clock.monotonic());
      await this.#clock.sleep(Math.min(ms, FOREVER_MS), this.#wake.signal);
    }
    this.#marked = false;
    this.#wake = new AbortController();
  }
}
