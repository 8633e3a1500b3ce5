/** Bounded waits: polls for a condition at short intervals, or waits for work in progress. */
import type { Clock } from "./clock.ts";

const FIRST_MS = 15;
const MOST_MS = 300;

/** The first defined answer of `check`, or undefined after `timeoutMs`. */
export async function waitFor<T>(
  check: () => Promise<T | undefined>,
  options: { readonly timeoutMs: number; readonly clock: Clock },
): Promise<T | undefined> {
  const deadline = options.clock.monotonic() + options.timeoutMs;
  for (let pauseMs = FIRST_MS; ; pauseMs = Math.min(pauseMs * 1.5, MOST_MS)) {
    const answer = await check();
    if (answer !== undefined || options.clock.monotonic() > deadline) return answer;
    await options.clock.sleep(pauseMs);
  }
}

/** False when `work` took longer than `timeoutMs`; `work` continues. */
export async function inTime(work: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), timeoutMs);
  });
  const done = await Promise.race([work.then(() => true), late]);
  clearTimeout(timer);
  return done;
}

/** A loop that was held up counts for one of these at most. */
const TURNS = 10;

/**
 * Calls `onLate` after `ms` in which the event loop ran: while the loop was blocked, an unread answer may have arrived. Not
 * called after disposal.
 */
export function limitWhileTurning(ms: number, onLate: () => void): Disposable {
  let left = TURNS;
  const timer = setInterval(() => {
    left--;
    if (left > 0) return;
    clearInterval(timer);
    onLate();
  }, ms / TURNS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
