/**
 * Collects garbage once a program is idle after work. The runtime collects while a program allocates, so a program keeps
 * what its last burst left, for as long as nothing happens.
 *
 * Nothing runs while nothing happens: only an act starts a timer. One full collection takes 10 to 20 ms of CPU, so it runs
 * only when the process has grown since the last one.
 */
import type { Clock } from "@bureau/kit/clock";

/** A program without an act for this long is idle. */
const IDLE_MS = 15_000;
/** Less is not worth a collection. */
const GROWTH_BYTES_MIN = 1024 * 1024;
/** The allocator returns pages to the kernel a moment after a collection. */
const RETURN_MS = 3_000;

/** The memory of this process. */
export type ProcessMemory = {
  /** Resident pages, in bytes. */
  resident(): number;
  collect(): void;
};

const ownMemory: ProcessMemory = {
  resident: () => process.memoryUsage.rss(),
  collect: () => Bun.gc(true),
};

export class IdleCollection implements Disposable {
  readonly #clock: Clock;
  readonly #memory: ProcessMemory;
  readonly #stop = new AbortController();
  #actedAt = 0;
  #isWaiting = false;
  /** Resident bytes after the last collection. */
  #level = 0;

  constructor(clock: Clock, memory: ProcessMemory = ownMemory) {
    this.#clock = clock;
    this.#memory = memory;
  }

  /** The program did something that may have left garbage. */
  acted(): void {
    this.#actedAt = this.#clock.monotonic();
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    void this.#collectWhenIdle().finally(() => {
      this.#isWaiting = false;
    });
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
  }

  async #collectWhenIdle(): Promise<void> {
    const { signal } = this.#stop;
    let collectedAt: number;
    do {
      for (;;) {
        const leftMs = this.#actedAt + IDLE_MS - this.#clock.monotonic();
        if (leftMs <= 0) break;
        await this.#clock.sleep(leftMs, signal);
        if (signal.aborted) return;
      }
      if (this.#memory.resident() - this.#level < GROWTH_BYTES_MIN) return;
      collectedAt = this.#clock.monotonic();
      this.#memory.collect();
      await this.#clock.sleep(RETURN_MS, signal);
      if (signal.aborted) return;
      // What was done meanwhile is not garbage that stays: it counts for the next collection.
      if (this.#actedAt <= collectedAt) this.#level = this.#memory.resident();
    } while (this.#actedAt > collectedAt);
  }
}
