/** The rules that look at one file: spreads, lengths of functions. */
import { describe, expect, test } from "bun:test";
import { functionLengths, judgeLengths } from "./function-lengths.ts";
import { checkPlainSpreads } from "./plain-spreads.ts";

describe("spreads", () => {
  const spread = ["...", "{"].join("");

  test("finds a spread of a literal", () => {
    expect(checkPlainSpreads("a.ts", `const a = {\n  ${spread} b, c },\n};`)).toEqual([
      "a.ts:2: spreads an object literal: write its fields plainly",
    ]);
  });

  test("accepts a spread of a value, of a choice, in a comment, and in another language", () => {
    for (const line of ["f({ ...a });", "f({ ...(b ? { c } : {}) });", `// ${spread} a }`])
      expect(checkPlainSpreads("a.ts", line), line).toEqual([]);
    expect(checkPlainSpreads("a.md", spread)).toEqual([]);
  });
});

describe("function lengths", () => {
  const of = (lines: number) => ({ path: "a.ts", line: 1, lines });
  const measured = (text: string) => functionLengths("a.ts", text).map(({ line, lines }) => [line, lines]);

  test("counts declarations, arrows and methods with their signature, without blank lines and comments", () => {
    expect(measured("function a() {\n  b();\n\n  // c\n  d();\n}\n")).toEqual([[1, 4]]);
    expect(measured("const a = async (\n  b: string,\n): Promise<void> => {\n  c();\n};\n")).toEqual([
      [1, 5],
    ]);
    expect(measured("class A {\n  private async b(): Promise<void> {\n    c();\n  }\n}\n")).toEqual([[2, 3]]);
    expect(measured("function a() {\n  if (\n    b\n  ) {\n    c();\n  }\n}\n")).toEqual([[1, 7]]);
  });

  test("prints the share of short ones, and refuses too few", () => {
    const few = judgeLengths([of(3), of(60)]);
    expect(few.line).toStartWith("2 functions, 50.0 % under 45 lines");
    expect(few.violations).toHaveLength(1);
    expect(judgeLengths([of(3), of(44)]).violations).toEqual([]);
  });

  test("refuses a function of more than 90 lines, by its place", () => {
    const many = Array.from({ length: 99 }, () => of(3));
    expect(judgeLengths([...many, of(91)]).violations).toEqual([
      expect.stringContaining("a function of 91 lines; the most is 90"),
    ]);
    expect(judgeLengths([...many, of(90)]).violations).toEqual([]);
  });
});
