/** Exponential backoff with full jitter and a cap: the one way anything here waits before it tries again. */
import type { Clock } from "./clock.ts";

export type BackoffPolicy = {
  /** Delay before the first retry, in milliseconds. */
  readonly firstMs: number;
  /** No delay is longer than this. */
  readonly maxMs: number;
};

/** 1 s, doubling, at most 30 s: the wire's numbers for /sync errors, event sends and crash loops (section 12.1). */
export const standardBackoff: BackoffPolicy = { firstMs: 1_000, maxMs: 30_000 };

/** What `choose` says each time: how long is waited may change while something is tried again and again. */
export const backoffOf = (choose: () => BackoffPolicy): BackoffPolicy => ({
  get firstMs() {
    return choose().firstMs;
  },
  get maxMs() {
    return choose().maxMs;
  },
});

/** The delay before retry number `attempt` (0 is the first), without jitter: doubling up to the cap. */
export function delayCeilingMs(policy: BackoffPolicy, attempt: number): number {
  return Math.min(policy.maxMs, policy.firstMs * 2 ** Math.min(attempt, 30));
}

/** {@link delayCeilingMs} with jitter between half of it and all of it. */
export function delayMs(policy: BackoffPolicy, attempt: number, random: () => number = Math.random): number {
  const ceiling = delayCeilingMs(policy, attempt);
  return Math.round(ceiling / 2 + (ceiling / 2) * random());
}

/**
 * Runs `act` until it succeeds, `isTransient` says an error is final, or `signal` aborts (then the last error is
 * thrown). `onRetry` is told before each wait.
 */
export async function retry<T>(
  act: () => Promise<T>,
  options: {
    policy?: BackoffPolicy;
    clock: Clock;
    signal?: AbortSignal;
    attemptsMax?: number;
    isTransient: (error: unknown) => boolean;
    onRetry?: (error: unknown, waitMs: number) => void;
    random?: () => number;
  },
): Promise<T> {
  const policy = options.policy ?? standardBackoff;
  for (let attempt = 0; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      const last = attempt + 1 >= (options.attemptsMax ?? Number.POSITIVE_INFINITY);
      if (last || options.signal?.aborted || !options.isTransient(error)) throw error;
      const waitMs = delayMs(policy, attempt, options.random);
      options.onRetry?.(error, waitMs);
      await options.clock.sleep(waitMs, options.signal);
      if (options.signal?.aborted) throw error;
    }
  }
}
