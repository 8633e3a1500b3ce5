import { expect, test } from "bun:test";
import type { Session } from "../auth/sessions.ts";
import { MatrixError } from "./matrix-error.ts";
import { RateLimits } from "./rate-limits.ts";

let nowMs = 0;
const clock = { now: () => nowMs, monotonic: () => nowMs, sleep: async () => {} };
const session = (userId: string, isAdmin = false): Session => ({
  userId,
  isAdmin,
  deviceId: "d",
  tokenHash: "h",
});

/** Requests that pass before the first that does not, and how long that one is asked to wait. */
function passed(limits: RateLimits, who: Session | undefined, bytes = 0): { count: number; waitMs: number } {
  const request = { session: who, remoteAddress: "10.0.0.1", isWrite: true, bytes, cost: 1 };
  for (let count = 0; ; count++) {
    try {
      limits.count(request);
    } catch (error) {
      if (!(error instanceof MatrixError)) throw error;
      return { count, waitMs: Number(error.extra["retry_after_ms"]) };
    }
  }
}

test("a user may burst, then write at a steady rate; a retry after the given time succeeds", () => {
  const limits = new RateLimits(clock);
  const bob = session("@bob:h");
  const { count, waitMs } = passed(limits, bob);
  expect(count).toBe(200);
  nowMs += waitMs;
  expect(passed(limits, bob).count).toBe(1);
  expect(passed(limits, session("@carol:h")).count).toBe(200);
});

test("large events count as several; a request too large for the bucket passes when that is full", () => {
  expect(passed(new RateLimits(clock), session("@bob:h"), 65_536).count).toBe(40);
  expect(passed(new RateLimits(clock), session("@bob:h"), 1e9).count).toBe(1);
});

test("the administrator and machines have a higher limit, requests without a token a lower one", () => {
  const limits = new RateLimits(clock);
  expect(passed(limits, session("@a:h", true)).count).toBe(4_000);
  expect(passed(limits, session("@acme/fleet/prod/machine/box:h")).count).toBe(4_000);
  expect(passed(limits, session("@acme/fleet/prod/agent/machine:h")).count).toBe(200);
  expect(passed(limits, undefined).count).toBe(200);
});

test("drops idle users first when there are too many", () => {
  const limits = new RateLimits(clock);
  const loud = session("@loud:h");
  passed(limits, loud);
  nowMs += 1_000;
  const once = (userId: string): void =>
    limits.count({ session: session(userId), remoteAddress: null, isWrite: true, bytes: 0, cost: 1 });
  for (let n = 0; n < 9_999; n++) once(`@${n}:h`);
  nowMs += 1_000;
  for (let n = 0; n < 500; n++) once(`@next${n}:h`);
  expect(passed(limits, loud).count).toBe(20);
});
