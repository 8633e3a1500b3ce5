import { expect, test } from "bun:test";
import { groupIdOf } from "./group-id.ts";

test("finds a group by its whole name", () => {
  expect(groupIdOf("root")).toBe(0);
  for (const none of ["roo", "0", "no-such-group"]) expect(groupIdOf(none)).toBeUndefined();
});
