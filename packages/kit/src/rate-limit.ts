/**
 * Rate limits of servers: how long an answer asks us to stay away, and waiting that long before the same request is
 * sent again. A request that was refused for its rate was not carried out, so repeating it is always safe; only that
 * request waits, and what was done before it is not done a second time.
 */
import { delayMs, standardBackoff } from "./backoff.ts";
import type { Clock } from "./clock.ts";
import type { Log } from "./log.ts";

/** A limit that a server counts in hundredths of a second is asked again no sooner than this. */
const PAUSE_MS_MIN = 50;
/** A longer wait than this is reported to the user. */
const SILENT_MS_MAX = 1_000;

export type RateLimitWait = {
  /** The waiting act: "create the room #a:b". */
  readonly act: string;
  readonly waitMs: number;
};

type Listener = (wait: RateLimitWait) => void;
let listener: Listener = () => {};

/** Receives each wait of more than a second: once in a program, its terminal or its log. */
export function onRateLimitWait(told: Listener): void {
  listener = told;
}

/** Writes each wait of more than a second to the log of a program that has no terminal. */
export const logRateLimitWaits = (log: Pick<Log, "info">): void =>
  onRateLimitWait((wait) =>
    log.info("homeserver.rate-limited", "the homeserver limits the request rate; waiting", wait),
  );

/**
 * How long an answer asks us to stay away: `Retry-After`, in seconds or as a date, before the older field
 * `retry_after_ms` of the body. Undefined when it does not say.
 */
export function retryAfterMs(header: string | null, body: unknown, now: number): number | undefined {
  const asked = header === null || header.trim() === "" ? Number.NaN : millisecondsOf(header, now);
  if (Number.isFinite(asked)) return Math.max(0, asked);
  const field =
    typeof body === "object" && body !== null && "retry_after_ms" in body ? body.retry_after_ms : undefined;
  return typeof field === "number" && field >= 0 ? field : undefined;
}

function millisecondsOf(header: string, now: number): number {
  const seconds = Number(header);
  return Number.isFinite(seconds) ? seconds * 1_000 : Date.parse(header) - now;
}

/**
 * Runs `act` until the server lets it. `limitOf` says whether an error is a refusal of that kind. The refusal is thrown
 * when waiting for it would take longer than `maxMs` in all, or when `signal` aborts.
 */
export async function waitOutRateLimit<T>(
  act: () => Promise<T>,
  options: {
    readonly what: string;
    readonly maxMs: number;
    readonly clock: Clock;
    readonly signal?: AbortSignal | undefined;
    readonly limitOf: (error: unknown) => { readonly retryAfterMs: number | undefined } | undefined;
  },
): Promise<T> {
  const { what, maxMs, clock, signal, limitOf } = options;
  let waited = 0;
  for (let attempt = 0; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      const limit = limitOf(error);
      if (limit === undefined || signal?.aborted) throw error;
      const waitMs = Math.max(PAUSE_MS_MIN, limit.retryAfterMs ?? delayMs(standardBackoff, attempt));
      if (waited + waitMs > maxMs) throw error;
      if (waitMs > SILENT_MS_MAX) listener({ act: what, waitMs });
      waited += waitMs;
      await clock.sleep(waitMs, signal);
      if (signal?.aborted) throw error;
    }
  }
}
