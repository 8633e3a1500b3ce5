import { describe, expect, test } from "bun:test";
import { shellLine, shellWord } from "./shell-words.ts";

const nasty = [
  "",
  "plain",
  "with space",
  "$HOME $(id) `id`",
  "a'b",
  "''",
  'say "hi"',
  "back\\slash",
  "end\\",
  "\\'",
  "new\nline",
  "tab\there",
  "*?[a-z]{1,2}~",
  "!history! #comment",
  "-n",
  "--",
  "ünï©ode ✓",
  "; rm -rf /",
  "a&b|c>d<e",
];

describe("words for an unknown shell", () => {
  for (const shell of ["sh", "bash"])
    test(`arrive in ${shell} exactly as they were`, () => {
      const line = shellLine(["printf", "%s\\0", ...nasty]);
      const { stdout } = Bun.spawnSync([shell, "-c", line]);
      expect(stdout.toString().split("\0").slice(0, -1)).toEqual(nasty);
    });

  test("quote a quotation mark and a backslash so that fish agrees", () => {
    // In fish a backslash is special inside single quotes, and nowhere else that this uses.
    expect(shellWord("it's \\ here")).toBe(`'it'"'"'s '"\\\\"' here'`);
  });

  test("name a program, never a variable, where they come first", () => {
    const { stderr } = Bun.spawnSync(["sh", "-c", shellLine(["a=b"])]);
    expect(stderr.toString()).toContain("a=b");
  });

  test("cannot hold a NUL", () => {
    expect(() => shellWord("a\0b")).toThrow("NUL");
  });
});
