import { expect, test } from "bun:test";
import type { Clock } from "@bureau/kit/clock";
import type { MachineReport } from "@bureau/schema/observe-wire";
import { describeAgents, waitForAgents } from "./wait-for-agents.ts";

/** A machine on which each call of `read` sees the next count of agents that are starting, of ten. */
function machine(counts: readonly number[]) {
  let time = 0;
  let read = 0;
  const shown: string[] = [];
  const clock = {
    monotonic: () => time,
    sleep: async (ms: number) => {
      time += ms;
    },
  } as unknown as Clock;
  const report = (busy: number) =>
    ({
      principals: Array.from({ length: 10 }, (_, index) => ({
        state: index < busy ? "starting" : "running",
      })),
    }) as unknown as MachineReport;
  return {
    wait: async () =>
      describeAgents(
        await waitForAgents(
          async () => report(counts[Math.min(read++, counts.length - 1)] ?? 0),
          { update: (text) => void shown.push(text) },
          { stallMs: 1_000, clock },
        ),
      ),
    shown,
    elapsed: () => time,
  };
}

test("waits as long as further agents become ready, and shows how many", async () => {
  const slow = machine([10, 9, 9, 9, 8, 8, 8, 7, 7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0]);
  expect(await slow.wait()).toBe("Agents: 10 running");
  expect(slow.elapsed()).toBeGreaterThan(1_000);
  expect(slow.shown).toContain("Agents: 6 starting, 4 running");
});

test("gives up when no agent becomes ready any more", async () => {
  const stuck = machine([3, 2]);
  expect(await stuck.wait()).toBe("Agents: 2 starting, 8 running");
});

test("asks once when there is nothing to wait for", async () => {
  const ready = machine([0]);
  expect(await ready.wait()).toBe("Agents: 10 running");
  expect([ready.elapsed(), ready.shown]).toEqual([0, []]);
});
