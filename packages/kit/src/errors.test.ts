import { expect, test } from "bun:test";
import { statSync } from "node:fs";
import { assert, BureauError, errnoOf, isBureauError, messageOf, unreachable } from "./errors.ts";

test("an error has a code, a hint that may be empty, and its cause's message behind its own", () => {
  const error = new BureauError("failed", "Cannot start", { cause: new Error("why", { cause: "deep" }) });
  expect([error.code, error.hint, error.name]).toEqual(["failed", "", "BureauError"]);
  expect(messageOf(error)).toBe("Cannot start: why: deep");
  expect(isBureauError(error) && !isBureauError(new Error("x"))).toBe(true);
  expect("cause" in new BureauError("failed", "x")).toBe(false);
  expect(messageOf("text")).toBe("text");
});

test("a system error's name is its errno", () => {
  try {
    statSync("/no/such/file");
    expect.unreachable();
  } catch (error) {
    expect(errnoOf(error)).toBe("ENOENT");
  }
  expect(errnoOf(new Error("x"))).toBeUndefined();
  expect(errnoOf("ENOENT")).toBeUndefined();
});

test("assertions and excluded branches throw", () => {
  expect(() => assert(false, "two is two")).toThrow("assertion failed: two is two");
  expect(() => assert(true, "x")).not.toThrow();
  expect(() => unreachable("x" as never)).toThrow('unreachable: "x"');
});
