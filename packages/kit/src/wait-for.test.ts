import { expect, test } from "bun:test";
import { limitWhileTurning } from "./wait-for.ts";

test("a limit does not count time in which the event loop was blocked", async () => {
  const late = Promise.withResolvers<number>();
  using _limit = limitWhileTurning(500, () => late.resolve(performance.now()));
  const answer = fetch("data:,here").then((response) => response.text());
  // Twice as long as the limit, at a stretch: the answer that is there afterwards still counts.
  Bun.sleepSync(1_000);
  expect(await Promise.race([answer, late.promise])).toBe("here");
  // Time in which the loop turns does count.
  expect(await late.promise).toBeGreaterThan(0);
});

test("a disposed limit never fires", async () => {
  let told = false;
  limitWhileTurning(10, () => {
    told = true;
  })[Symbol.dispose]();
  const other = Promise.withResolvers<void>();
  using _other = limitWhileTurning(40, other.resolve);
  await other.promise;
  expect(told).toBe(false);
});
