import { expect, test } from "bun:test";
import { withBlock } from "./block-text.ts";

test("adds lines at the end, replaces earlier ones in place, and removes them without a trace", () => {
  for (const text of ["", "a = 1\n", "a = 1\n\n# said\n"]) {
    const with1 = withBlock(text, ["x = 1"]);
    expect(with1.startsWith(text)).toBe(true);
    expect(with1).toContain("\nx = 1\n");
    const with2 = withBlock(with1, ["x = 2", "y = 3"]);
    expect(with2).not.toContain("x = 1");
    expect(withBlock(with2, [])).toBe(text);
  }
});

test("keeps lines of others around our lines", () => {
  const changed = `before = 1\n${withBlock("", ["x = 1"])}after = 2\n`;
  expect(withBlock(changed, [])).toBe("before = 1\nafter = 2\n");
});
