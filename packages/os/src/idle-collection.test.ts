import { expect, test } from "bun:test";
import type { Clock } from "@bureau/kit/clock";
import { IdleCollection } from "./idle-collection.ts";

const MB = 1024 * 1024;

/** A program whose memory and clock the test sets. */
function program() {
  let now = 0;
  let sleepers: { readonly at: number; readonly wake: () => void }[] = [];
  const clock: Clock = {
    now: () => now,
    monotonic: () => now,
    sleep: (ms) => new Promise((resolve) => sleepers.push({ at: now + ms, wake: resolve })),
  };
  const memory = {
    bytes: 30 * MB,
    garbage: 0,
    collections: 0,
    resident: () => memory.bytes + memory.garbage,
    collect() {
      memory.collections++;
      memory.garbage = 0;
    },
  };
  return {
    memory,
    collection: new IdleCollection(clock, memory),
    sleepers: () => sleepers.length,
    async pass(seconds: number): Promise<void> {
      for (const until = now + seconds * 1000; now < until; now += 1000) {
        await Promise.resolve();
        const due = sleepers.filter(({ at }) => at <= now + 1000);
        sleepers = sleepers.filter((sleeper) => !due.includes(sleeper));
        for (const { wake } of due) wake();
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
  };
}

test("collects once, when the program is idle after a burst", async () => {
  const { memory, collection, pass } = program();
  for (let act = 0; act < 20; act++) {
    memory.garbage += MB;
    collection.acted();
    await pass(5);
    expect(memory.collections).toBe(0);
  }
  await pass(600);
  expect(memory.collections).toBe(1);
  expect(memory.garbage).toBe(0);
});

test("does not run a timer while nothing happens", async () => {
  const { collection, sleepers, pass } = program();
  expect(sleepers()).toBe(0);
  collection.acted();
  await pass(60);
  expect(sleepers()).toBe(0);
});

test("does not collect after work that left nothing, and counts what several acts leave", async () => {
  const { memory, collection, pass } = program();
  collection.acted();
  await pass(60);
  expect(memory.collections).toBe(1);
  for (let act = 0; act < 10; act++) {
    memory.garbage += MB / 5;
    collection.acted();
    await pass(60);
  }
  expect(memory.collections).toBe(3);
});

test("counts what a burst leaves directly after a collection", async () => {
  const { memory, collection, pass } = program();
  memory.garbage = 5 * MB;
  collection.acted();
  await pass(16);
  expect(memory.collections).toBe(1);
  memory.garbage = 5 * MB;
  collection.acted();
  await pass(60);
  expect(memory.collections).toBe(2);
  expect(memory.garbage).toBe(0);
});

test("a disposed one collects no more", async () => {
  const { memory, collection, pass } = program();
  collection.acted();
  collection[Symbol.dispose]();
  await pass(60);
  expect(memory.collections).toBe(0);
});
