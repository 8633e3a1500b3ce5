import { afterEach, expect, test } from "bun:test";
import { tmpdir } from "node:os";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { waitFor } from "@bureau/kit/wait-for";
import { identify, type ProcessId, signalProcess } from "@bureau/os/process-table";
import { silentLog } from "@bureau/os/testing/silent-log";
import { childProxies } from "./proxy-channel.ts";
import { SPARE_PROXIES, SpareProxies } from "./spare-proxies.ts";

const started: ProcessId[] = [];
afterEach(() => {
  for (const id of started.splice(0)) signalProcess(id, "SIGKILL");
});

/** Counts the proxies that are started, and how many of these starts run at the same time. */
function counted(clock: Clock = systemClock) {
  const open = childProxies(["/bin/sh", "-c", "echo pid $$; exec sleep 60"], tmpdir());
  const counts = { starts: 0, running: 0, most: 0 };
  const spares = new SpareProxies({
    count: SPARE_PROXIES,
    open: async (mode) => {
      counts.starts += 1;
      counts.running += 1;
      counts.most = Math.max(counts.most, counts.running);
      const proxy = await open(mode).finally(() => (counts.running -= 1));
      started.push(proxy.id);
      return proxy;
    },
    stop: async (id) => void signalProcess(id, "SIGKILL"),
    clock,
    log: silentLog,
  });
  return { spares, counts };
}

const full = async (spares: SpareProxies): Promise<void> => {
  const isFull = async () => (spares.ids.length === SPARE_PROXIES ? true : undefined);
  expect(await waitFor(isFull, { timeoutMs: 5_000, clock: systemClock })).toBe(true);
};

test("starts its spares one after the other, and no more than their number", async () => {
  const { spares, counts } = counted();
  for (let again = 0; again < 3; again++) spares.refill();
  await full(spares);
  spares.refill();
  expect(counts).toEqual({ starts: SPARE_PROXIES, running: 0, most: 1 });
  await spares[Symbol.asyncDispose]();
});

test("while sandboxes start, all spares are taken and none is started", async () => {
  const { spares, counts } = counted();
  spares.refill();
  await full(spares);
  const pauses = [spares.pauseRefill(), spares.pauseRefill()];
  const taken = [];
  for (let index = 0; index < SPARE_PROXIES; index++) taken.push((await spares.take())?.id.pid);
  expect(new Set(taken).size).toBe(SPARE_PROXIES);
  expect(await spares.take()).toBeUndefined();
  pauses[0]?.[Symbol.dispose]();
  expect(counts.starts).toBe(SPARE_PROXIES);
  pauses[1]?.[Symbol.dispose]();
  await full(spares);
  expect(counts).toEqual({ starts: 2 * SPARE_PROXIES, running: 0, most: 1 });
  await spares[Symbol.asyncDispose]();
});

test("a sandbox that arrives during a refill takes the proxy that starts", async () => {
  const { spares, counts } = counted();
  spares.refill();
  {
    using _pause = spares.pauseRefill();
    expect(await spares.take()).toBeDefined();
    expect(counts.starts).toBe(1);
  }
  await full(spares);
  expect(counts).toEqual({ starts: 1 + SPARE_PROXIES, running: 0, most: 1 });
  await spares[Symbol.asyncDispose]();
});

test("replaces spares that die while they wait, without being asked", async () => {
  const { spares, counts } = counted({ ...systemClock, sleep: async () => {} });
  spares.refill();
  await full(spares);
  const first = spares.ids;
  for (const id of first) signalProcess(id, "SIGKILL");
  const areOthers = async () =>
    spares.ids.length === SPARE_PROXIES && spares.ids.every((id) => !first.includes(id)) ? true : undefined;
  expect(await waitFor(areOthers, { timeoutMs: 5_000, clock: systemClock })).toBe(true);
  expect(counts).toEqual({ starts: 2 * SPARE_PROXIES, running: 0, most: 1 });
  await spares[Symbol.asyncDispose]();
});

test("replaces a spare that died, and gives none away", async () => {
  const { spares } = counted();
  spares.refill();
  await full(spares);
  const dead = spares.ids;
  for (const id of dead) signalProcess(id, "SIGKILL");
  const areGone = async () => (dead.every(({ pid }) => identify(pid) === undefined) ? true : undefined);
  expect(await waitFor(areGone, { timeoutMs: 5_000, clock: systemClock })).toBe(true);
  expect(await spares.take()).toBeUndefined();
  spares.refill();
  await full(spares);
  await spares[Symbol.asyncDispose]();
});

test("ends its spares, also one that is being started", async () => {
  const { spares, counts } = counted();
  spares.refill();
  await spares.end();
  expect(spares.ids).toEqual([]);
  expect(counts.starts).toBe(1);
  await spares[Symbol.asyncDispose]();
  spares.refill();
  expect(counts.starts).toBe(1);
});
