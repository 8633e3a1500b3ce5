import { expect, test } from "bun:test";
import { systemClock } from "./clock.ts";
import { onRateLimitWait, type RateLimitWait, retryAfterMs, waitOutRateLimit } from "./rate-limit.ts";

class Limited extends Error {
  constructor(readonly retryAfterMs: number | undefined) {
    super("slow down");
  }
}

/** Runs an act that is refused with each of `limits` in turn, by a clock that only notes what it was asked. */
async function run(limits: readonly (number | undefined)[], maxMs: number) {
  const pauses: number[] = [];
  const told: RateLimitWait[] = [];
  onRateLimitWait((wait) => told.push(wait));
  let calls = 0;
  const result = await waitOutRateLimit(
    () => (calls < limits.length ? Promise.reject(new Limited(limits[calls++])) : Promise.resolve("done")),
    {
      what: "join #a:b",
      maxMs,
      clock: { ...systemClock, sleep: async (ms) => void pauses.push(ms) },
      limitOf: (error) => (error instanceof Limited ? error : undefined),
    },
  ).catch((error: unknown) => error);
  onRateLimitWait(() => {});
  return { result, pauses, told };
}

test("the header's seconds or date win over the body's older field", () => {
  const now = Date.parse("2026-01-01T00:00:00Z");
  expect(retryAfterMs("3", { retry_after_ms: 1_500 }, now)).toBe(3_000);
  expect(retryAfterMs("Thu, 01 Jan 2026 00:00:07 GMT", {}, now)).toBe(7_000);
  expect(retryAfterMs("Wed, 31 Dec 2025 00:00:00 GMT", {}, now)).toBe(0);
  expect(retryAfterMs(null, { retry_after_ms: 1_500 }, now)).toBe(1_500);
  expect(retryAfterMs("soon", { retry_after_ms: 20 }, now)).toBe(20);
  for (const body of [{}, undefined, "x", { retry_after_ms: -1 }, { retry_after_ms: "5" }])
    expect(retryAfterMs("", body, now)).toBeUndefined();
});

test("waits as long as each refusal asks, and reports only waits of more than a second", async () => {
  const { result, pauses, told } = await run([0, 700, 62_000], 100_000);
  expect(result).toBe("done");
  expect(pauses).toEqual([50, 700, 62_000]);
  expect(told).toEqual([{ act: "join #a:b", waitMs: 62_000 }]);
});

test("backs off when a refusal gives no time", async () => {
  const { result, pauses } = await run([undefined, undefined, undefined], 100_000);
  expect(result).toBe("done");
  expect(pauses.every((ms, index) => ms >= 500 * 2 ** index && ms <= 1_000 * 2 ** index)).toBe(true);
});

test("limits the total wait of one request", async () => {
  const { result, pauses } = await run([60_000, 60_000, 1_000], 100_000);
  expect(result).toBeInstanceOf(Limited);
  expect(pauses).toEqual([60_000]);
});

test("does not wait for other errors, or after an abort", async () => {
  const options = { what: "join", maxMs: 1_000, clock: systemClock };
  const other = waitOutRateLimit(() => Promise.reject(new Error("other")), {
    ...options,
    limitOf: () => undefined,
  });
  await expect(other).rejects.toThrow("other");
  const aborted = waitOutRateLimit(() => Promise.reject(new Limited(500)), {
    ...options,
    signal: AbortSignal.abort(),
    limitOf: () => ({ retryAfterMs: 500 }),
  });
  await expect(aborted).rejects.toThrow("slow down");
});
