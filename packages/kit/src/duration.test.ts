import { expect, test } from "bun:test";
import { parseDuration } from "./duration.ts";

test("a duration is a whole number and a unit", () => {
  expect(["0s", "500ms", "30s", "5m", "24h", "7d"].map((typed) => parseDuration(typed, "--x"))).toEqual([
    0, 500, 30_000, 300_000, 86_400_000, 604_800_000,
  ]);
});

test.each(["", "5", "1.5h", "-1s", "1 h", "1w", "99999999999999999999d"])(
  "%p is none, and the error names the flag",
  (typed) => {
    expect(() => parseDuration(typed, "--grace")).toThrow("--grace");
  },
);
