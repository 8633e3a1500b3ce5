import { expect, test } from "bun:test";
import { withBlock } from "./block-text.ts";

test("lines are added at the end, replaced in place of those before, and removed without a trace", () => {
  for (const text of ["", "a = 1\n", "a = 1\n\n# said\n"]) {
    const with1 = withBlock(text, ["x = 1"]);
    expect(with1.startsWith(text)).toBe(true);
    expect(with1).toContain("\nx = 1\n");
    const with2 = withBlock(with1, ["x = 2", "y = 3"]);
    expect(with2).not.toContain("x = 1");
    expect(withBlock(with2, [])).toBe(text);
  }
});

test("what others write around our lines stays", () => {
  const changed = `before = 1\n${withBlock("", ["x = 1"])}after = 2\n`;
  expect(withBlock(changed, [])).toBe("before = 1\nafter = 2\n");
});
