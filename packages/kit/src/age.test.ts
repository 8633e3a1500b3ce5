import { describe, expect, test } from "bun:test";
import { age, withAge } from "./age.ts";

const now = Date.parse("2026-01-31T09:30:00Z");

describe("how long ago", () => {
  for (const [ms, said] of [
    [999, "now"],
    [1_000, "1 s ago"],
    [59_999, "59 s ago"],
    [60_000, "1 min ago"],
    [3 * 3_600_000 + 1, "3 h ago"],
    [50 * 3_600_000, "2 d ago"],
    [-86_400_000, "in 1 d"],
  ] as const)
    test(said, () => expect(age(now - ms, now)).toBe(said));

  test("follows a timestamp; other text stays as it is", () => {
    expect(withAge("2026-01-31T09:27:00.123Z", now)).toBe("2026-01-31T09:27:00Z (2 min ago)");
    expect(withAge("yesterday", now)).toBe("yesterday");
  });
});
