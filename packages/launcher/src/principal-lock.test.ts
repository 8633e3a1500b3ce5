import { expect, test } from "bun:test";
import { PrincipalLock } from "./principal-lock.ts";

test("acts of one principal run one after another, also after a failure; other principals do not wait", async () => {
  const lock = new PrincipalLock();
  const order: string[] = [];
  const first = Promise.withResolvers<void>();
  const a = lock.run("agent/a", async () => {
    order.push("a1 begins");
    await first.promise;
    throw new Error("a1 fails");
  });
  const b = lock.run("agent/a", async () => void order.push("a2"));
  await lock.run("agent/b", async () => void order.push("b"));
  expect(order).toEqual(["a1 begins", "b"]);
  first.resolve();
  await expect(a).rejects.toThrow("a1 fails");
  await b;
  await lock.idle();
  expect(order).toEqual(["a1 begins", "b", "a2"]);
});
