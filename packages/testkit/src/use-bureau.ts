/** One running Bureau for a whole test file: up before its first test, gone after its last. */
import { afterAll, beforeAll } from "bun:test";
import { systemClock } from "@bureau/kit/clock";
import { waitFor } from "@bureau/kit/wait-for";
import { createBureau, type TestBureau } from "./bureau.ts";

/** A first `bureau up` takes about a second; a crowded machine is given a minute and a half. */
const UP_MS_MAX = 90_000;
const EVENTUALLY_MS_MAX = 30_000;

/** Registers the hooks; the function it returns gives the Bureau inside tests. */
export function useBureau(onUp: (printed: unknown) => void = () => {}): () => TestBureau {
  let running: TestBureau | undefined;
  beforeAll(async () => {
    running = createBureau();
    onUp(await running.json("up"));
  }, UP_MS_MAX);
  afterAll(async () => {
    await running?.[Symbol.asyncDispose]();
  }, UP_MS_MAX);
  return () => {
    if (running === undefined) throw new Error("this Bureau is not up");
    return running;
  };
}

/** The first defined answer of `check`, asked again and again. @throws Error with `describe()` when it never comes */
export async function eventually<T>(
  check: () => Promise<T | undefined>,
  options: { readonly timeoutMs?: number; readonly describe?: () => Promise<string> | string } = {},
): Promise<T> {
  const timeoutMs = options.timeoutMs ?? EVENTUALLY_MS_MAX;
  const answer = await waitFor(check, { timeoutMs, clock: systemClock });
  if (answer !== undefined) return answer;
  throw new Error(
    `not within ${timeoutMs} ms: ${(await options.describe?.()) ?? "the condition was never met"}`,
  );
}
