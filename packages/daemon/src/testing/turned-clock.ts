/** A clock that stands still until it is turned. Turning it wakes sleepers in order and lets what they cause happen. */
import type { Clock } from "@bureau/kit/clock";

type Sleeper = { readonly at: number; readonly wake: () => void };

export class TurnedClock implements Clock {
  #now = 1_000_000;
  #sleepers = new Set<Sleeper>();

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const wake = (): void => {
        this.#sleepers.delete(sleeper);
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      const sleeper: Sleeper = { at: this.#now + ms, wake };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", wake, { once: true });
    });
  }

  /** Lets `ms` pass. */
  async turn(ms: number): Promise<void> {
    const until = this.#now + ms;
    await runPending();
    for (;;) {
      let next: Sleeper | undefined;
      for (const sleeper of this.#sleepers)
        if (sleeper.at <= until && (next === undefined || sleeper.at < next.at)) next = sleeper;
      if (next === undefined) break;
      this.#now = Math.max(this.#now, next.at);
      next.wake();
      await runPending();
    }
    this.#now = until;
  }
}

/** Everything that is not waiting for the clock runs to its end. */
const runPending = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
