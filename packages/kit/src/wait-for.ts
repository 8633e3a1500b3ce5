/** Waiting for something others bring about: asked again at short intervals until it holds or time is up. */
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
