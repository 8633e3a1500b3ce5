import { expect, test } from "bun:test";
import { systemClock, timestamp } from "./clock.ts";

test("a sleep lasts its time, and never goes by the wall clock", async () => {
  const before = systemClock.monotonic();
  await systemClock.sleep(15);
  expect(systemClock.monotonic() - before).toBeGreaterThanOrEqual(14);
});

test("a sleep ends at once when its signal aborts or has aborted, and lets go of the signal", async () => {
  const before = systemClock.monotonic();
  await systemClock.sleep(60_000, AbortSignal.abort());
  const stop = new AbortController();
  const sleeping = systemClock.sleep(60_000, stop.signal);
  stop.abort();
  await sleeping;
  expect(systemClock.monotonic() - before).toBeLessThan(5_000);
  const counted = new CountingSignal();
  await systemClock.sleep(1, counted.signal);
  expect(counted.listeners).toBe(0);
});

test("now is the time of day, and stamps are RFC 3339 in UTC with whole seconds", () => {
  expect(Math.abs(systemClock.now() - Date.now())).toBeLessThan(1_000);
  const clock = { ...systemClock, now: () => Date.UTC(2026, 0, 2, 3, 4, 5, 678) };
  expect(timestamp(clock)).toBe("2026-01-02T03:04:05Z");
});

class CountingSignal {
  readonly #controller = new AbortController();
  listeners = 0;
  readonly signal = this.#controller.signal;
  constructor() {
    const { signal } = this;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = (...args: Parameters<typeof add>) => {
      this.listeners++;
      add(...args);
    };
    signal.removeEventListener = (...args: Parameters<typeof remove>) => {
      this.listeners--;
      remove(...args);
    };
  }
}
