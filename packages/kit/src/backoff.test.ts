import { describe, expect, test } from "bun:test";
import { delayCeilingMs, delayMs, retry, standardBackoff } from "./backoff.ts";
import type { Clock } from "./clock.ts";

/** A clock whose sleeps pass at once and are remembered. */
function fakeClock(): Clock & { slept: number[] } {
  const slept: number[] = [];
  let time = 0;
  const sleep = async (ms: number): Promise<void> => {
    slept.push(ms);
    time += ms;
  };
  return { slept, now: () => time, monotonic: () => time, sleep };
}

describe("delays", () => {
  test("double from a second to half a minute, and stay there", () => {
    const ceilings = [0, 1, 2, 3, 4, 5, 6, 1_000].map((attempt) => delayCeilingMs(standardBackoff, attempt));
    expect(ceilings).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  });

  test("have jitter between half of it and all of it", () => {
    expect(delayMs(standardBackoff, 2, () => 0)).toBe(2_000);
    expect(delayMs(standardBackoff, 2, () => 1)).toBe(4_000);
    for (let i = 0; i < 100; i++) {
      const delay = delayMs(standardBackoff, 5);
      expect(delay >= 15_000 && delay <= 30_000).toBe(true);
    }
  });
});

describe("retry", () => {
  const failing = (times: number): (() => Promise<string>) => {
    let left = times;
    return async () => {
      if (left-- > 0) throw new Error(`failure ${left}`);
      return "done";
    };
  };
  const base = { isTransient: () => true, random: () => 1 };

  test("waits longer each time, tells before each wait, and returns what succeeded", async () => {
    const clock = fakeClock();
    const told: unknown[] = [];
    const onRetry = (error: unknown, waitMs: number): void => void told.push([String(error), waitMs]);
    expect(await retry(failing(3), { ...base, clock, onRetry })).toBe("done");
    expect(clock.slept).toEqual([1_000, 2_000, 4_000]);
    expect(told[0]).toEqual(["Error: failure 2", 1_000]);
  });

  test("a final error is thrown at once", async () => {
    const clock = fakeClock();
    await expect(retry(failing(1), { ...base, clock, isTransient: () => false })).rejects.toThrow(
      "failure 0",
    );
    expect(clock.slept).toEqual([]);
  });

  test("attempts have a limit, and the last error is what is thrown", async () => {
    const clock = fakeClock();
    await expect(retry(failing(9), { ...base, clock, attemptsMax: 3 })).rejects.toThrow("failure 6");
    await Bun.sleep(0);
    expect(clock.slept).toHaveLength(2);
  });

  test("an abort while waiting ends it with the last error", async () => {
    const stop = new AbortController();
    const clock = fakeClock();
    const onRetry = (): void => stop.abort();
    await expect(retry(failing(9), { ...base, clock, onRetry, signal: stop.signal })).rejects.toThrow(
      "failure 8",
    );
    await Bun.sleep(0);
    expect(clock.slept).toHaveLength(1);
  });
});
