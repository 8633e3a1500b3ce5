/**
 * Slows down password guessing. After several wrong passwords from an address, its further attempts run one by one with a
 * pause between them. They are not refused, so that a user with the right password can still log in.
 */
import type { Clock } from "@bureau/kit/clock";
import { MatrixError } from "../http/matrix-error.ts";

/** Wrong passwords from one address in a window before its attempts are queued. */
const FAILURES_MAX = 20;
const WINDOW_MS = 60_000;
const PAUSE_MS = 300;
/** Queued attempts from one address. */
const WAITING_MAX = 10;
const SOURCES_MAX = 10_000;

type Source = { failures: number; since: number; next: number; waiting: number };

export class GuessLimit {
  readonly #clock: Clock;
  readonly #sources = new Map<string, Source>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves when an attempt from `address` may be made. @throws MatrixError M_LIMIT_EXCEEDED */
  async turn(address: string): Promise<void> {
    const source = this.#sources.get(address);
    const now = this.#clock.monotonic();
    if (source === undefined || source.failures < FAILURES_MAX) return;
    if (now - source.since > WINDOW_MS && source.waiting === 0) {
      this.#sources.delete(address);
      return;
    }
    const waitMs = Math.max(0, source.next - now);
    if (source.waiting >= WAITING_MAX)
      throw new MatrixError(429, "M_LIMIT_EXCEEDED", "Too many wrong passwords from this address", {
        retry_after_ms: Math.ceil(waitMs),
      });
    source.next = now + waitMs + PAUSE_MS;
    source.waiting += 1;
    try {
      await this.#clock.sleep(waitMs);
    } finally {
      source.waiting -= 1;
    }
  }

  failed(address: string): void {
    const now = this.#clock.monotonic();
    const source = this.#sources.get(address) ?? { failures: 0, since: now, next: now, waiting: 0 };
    source.failures += 1;
    this.#sources.delete(address);
    const oldest = this.#sources.size >= SOURCES_MAX ? this.#sources.keys().next().value : undefined;
    if (oldest !== undefined) this.#sources.delete(oldest);
    this.#sources.set(address, source);
  }
}
