import { expect, test } from "bun:test";
import { silentLog } from "@bureau/os/testing/silent-log";
import type { SandboxStatus } from "@bureau/schema/launcher-ipc";
import { parsePrincipalName } from "@bureau/schema/refs";
import type { HealthCheck } from "@bureau/schema/template";
import { TurnedClock } from "../testing/turned-clock.ts";
import { STEADY_MS } from "./health-check.ts";
import { HealthMonitor } from "./health-monitor.ts";

const account = parsePrincipalName("service/a");
const check: HealthCheck = { type: "socket", interval_seconds: 10 };

/** One principal, watched from its start. */
function watched(asked: HealthCheck | undefined) {
  const clock = new TurnedClock();
  const run = (pid: number): SandboxStatus => ({
    principal: account,
    digests: { spec: "s.c", payload: "p" },
    state: "running",
    pid,
    proxy: { state: "running" },
    started_at: clock.now(),
  });
  const world = { checks: 0, answer: undefined as string | undefined, changes: 0 };
  const monitor = new HealthMonitor({
    clock,
    log: silentLog,
    onChange: () => world.changes++,
    healthProbe: async () => {
      world.checks++;
      return world.answer;
    },
  });
  const sandbox = run(1);
  const follow = (one: SandboxStatus, its = asked): void => monitor.follow([one], new Map([[account, its]]));
  follow(sandbox);
  return { clock, monitor, world, sandbox, run, follow, state: () => monitor.of(sandbox, asked) };
}

test("the first check comes after the grace and one interval, by default 40 s here", async () => {
  const { clock, world, state } = watched(check);
  await clock.turn(39_999);
  expect([world.checks, state().state]).toEqual([0, "starting"]);
  await clock.turn(1);
  expect([world.checks, state()]).toEqual([1, { state: "healthy", hasPassed: true }]);
});

test("three failures in a row make it unhealthy, and one success healthy again", async () => {
  const { clock, world, state } = watched(check);
  world.answer = "no";
  await clock.turn(50_000);
  expect(state()).toEqual({ state: "failing", hasPassed: false, reason: "no" });
  world.answer = undefined;
  await clock.turn(10_000);
  expect(state().state).toBe("healthy");
  world.answer = "no";
  await clock.turn(30_000);
  expect(state()).toEqual({ state: "unhealthy", hasPassed: true, reason: "no" });
  // Reported at a change, not at each check.
  expect(world.changes).toBe(4);
});

test("without a check it counts as working after it has run for a while", async () => {
  const { clock, world, state } = watched(undefined);
  await clock.turn(STEADY_MS - 1);
  expect(state()).toEqual({ state: undefined, hasPassed: false });
  await clock.turn(1);
  expect([state(), world.checks]).toEqual([{ state: undefined, hasPassed: true }, 0]);
});

test("the next run, or another check, starts with unknown health", async () => {
  const { clock, monitor, world, sandbox, run, follow } = watched(check);
  world.answer = "no";
  await clock.turn(60_000);
  expect(monitor.of(sandbox, check).state).toBe("unhealthy");
  const other = { ...check, interval_seconds: 20 };
  expect(monitor.of(sandbox, other).state).toBe("starting");
  const next = run(2);
  expect(monitor.of(next, check).state).toBe("starting");
  follow(next);
  expect(monitor.of(next, check).state).toBe("starting");
});

test("stops the checks of a sandbox that is gone, but not of one with an action under way", async () => {
  const { clock, monitor, world, sandbox } = watched(check);
  monitor.follow([sandbox], new Map());
  await clock.turn(40_000);
  expect(world.checks).toBe(1);
  monitor.follow([], new Map());
  await clock.turn(100_000);
  expect(world.checks).toBe(1);
});

test("a zero in the check means the default, as in the reference", async () => {
  const { clock, world } = watched({ ...check, grace_period_seconds: 0, failure_threshold: 0 });
  await clock.turn(39_999);
  expect(world.checks).toBe(0);
});
