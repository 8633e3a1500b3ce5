import { expect, test } from "bun:test";
import { Turns } from "./turns.ts";

test("gives turns in order, and lets the event loop run between two", async () => {
  const turns = new Turns();
  const happened: string[] = [];
  const tick = (): void => {
    happened.push("event loop");
    if (happened.length < 20) setImmediate(tick);
  };
  setImmediate(tick);
  await Promise.all(["first", "second", "third"].map((name) => turns.take().then(() => happened.push(name))));
  expect(happened.filter((name) => name !== "event loop")).toEqual(["first", "second", "third"]);
  expect(happened.indexOf("event loop")).toBeLessThan(happened.indexOf("second"));
  expect(happened.slice(happened.indexOf("second"), happened.indexOf("third"))).toContain("event loop");
});
