import { expect, test } from "bun:test";
import { randomOf } from "../testing/random-of.ts";
import { BoundedCache } from "./bounded-cache.ts";

const randomBelowOne = (seed: number): (() => number) => {
  const random = randomOf(seed);
  return () => random(1_000_000) / 1_000_000;
};

test("misses in proportion to what has no place when all entries are used in turn", () => {
  const cache = new BoundedCache<number>(900, () => 1, randomBelowOne(1));
  let misses = 0;
  for (let turn = 0; turn < 20; turn++)
    for (let key = 0; key < 1_000; key++) {
      if (cache.get(String(key)) !== undefined) continue;
      if (turn > 0) misses += 1;
      cache.set(String(key), key);
    }
  expect(cache.size).toBe(900);
  // Dropping the least recently used one would miss all 19,000 times.
  expect(misses / 19_000).toBeLessThan(0.3);
});

test("keeps the sum of weights below the bound, and gives what was set last", () => {
  const random = randomOf(7);
  const weights = new Map<string, number>();
  const cache = new BoundedCache<{ weight: number }>(100, ({ weight }) => weight, randomBelowOne(7));
  for (let step = 0; step < 5_000; step++) {
    const key = String(random(60));
    if (random(4) === 0) {
      cache.delete(key);
      weights.delete(key);
      expect(cache.get(key)).toBeUndefined();
      continue;
    }
    const value = { weight: 1 + random(20) };
    cache.set(key, value);
    weights.set(key, value.weight);
    expect(cache.get(key)).toBe(value);
    const entries = [...cache];
    expect(entries.reduce((sum, [, { weight }]) => sum + weight, 0)).toBeLessThanOrEqual(100);
    for (const [name, { weight }] of entries) expect(weight).toBe(weights.get(name) as number);
  }
});

test("keeps an entry that is heavier than the bound, alone", () => {
  const cache = new BoundedCache<number>(10, (weight) => weight);
  cache.set("a", 5);
  cache.set("b", 50);
  expect([...cache]).toEqual([["b", 50]]);
  cache.set("c", 1);
  expect([...cache]).toEqual([["c", 1]]);
});
