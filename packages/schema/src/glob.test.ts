import { describe, expect, test } from "bun:test";
import { anyGlobMatches, anyUserMatcher, globMatches, userPatternMatcher } from "./glob.ts";

/** `pattern`, what it must match, what it must not. */
const table: [string, string[], string[]][] = [
  ["**", ["a", "a/b", "a/b/c"], []],
  ["a", ["a"], ["b", "a/b", "", "aa"]],
  ["*", ["a", "abc"], ["a/b"]],
  ["a/*", ["a/b"], ["a", "a/b/c", "b/a"]],
  ["a/?", ["a/b"], ["a/", "a/bc", "a//"]],
  ["?", ["a", "é", "💡"], ["", "/", "ab"]],
  ["*-box", ["gpu-box", "-box"], ["gpu-boxes", "a/gpu-box"]],
  ["a*b*c", ["abc", "axbxc", "abbcc"], ["ab", "abcd", "a/bc"]],
  ["a.c", ["a.c"], ["abc"]],
  ["a+b=(c)", ["a+b=(c)"], ["aab=c"]],
  ["agent/**", ["agent", "agent/a", "agent/a/b"], ["agents", "agents/a", "x/agent", "agent/", "agent//a"]],
  ["observe/**", ["observe", "observe/read-write"], ["observer"]],
  ["*/**", ["a", "a/b/c"], ["/a", "a//b"]],
  ["**/s", ["s", "a/s", "a/b/s"], ["as", "a/xs", "s/a", "/s"]],
  ["**/a/s", ["a/s", "x/a/s"], ["s", "a/x/s"]],
  ["p/**/s", ["p/s", "p/a/s", "p/a/b/s"], ["p", "s", "ps", "p//s", "p/a/sx", "xp/s"]],
  ["p/*/**/s", ["p/a/s", "p/a/b/s"], ["p/s"]],
  ["[abc]", ["a", "b", "c"], ["d", "", "ab"]],
  ["[a-cx]1", ["a1", "b1", "x1"], ["d1", "a"]],
  ["[^a-c]", ["d", "-", "é"], ["a", "b", "/"]],
  ["[\\]\\-\\\\]", ["]", "-", "\\"], ["a"]],
  ["[z-a]", [], ["a", "z", "m"]],
  ["\\*", ["*"], ["a"]],
  ["\\a", ["a"], ["\\a"]],
  ["a[!b]", ["a!", "ab"], ["ac"]],
];

describe("globs", () => {
  for (const [pattern, yes, no] of table)
    test(`${pattern} matches just what it says`, () => {
      for (const value of yes) expect(globMatches(pattern, value), `${pattern} ~ ${value}`).toBe(true);
      for (const value of no) expect(globMatches(pattern, value), `${pattern} !~ ${value}`).toBe(false);
    });

  test("more than one ** or one in an odd place never matches", () => {
    for (const pattern of ["**/a/**", "a/**/**", "***", "a**", "**a", "a/b**/c", "**/**"])
      for (const value of ["a", "a/a", "x/a/y", "a/b/c"]) expect(globMatches(pattern, value)).toBe(false);
  });

  test("a malformed pattern never matches, not even itself", () => {
    for (const pattern of [
      "[",
      "[]",
      "[^]",
      "[a",
      "[]a]",
      "[-a]",
      "[a-]",
      "[a-b-c]",
      "a\\",
      "[\\",
      "[a\\]",
    ]) {
      expect(globMatches(pattern, pattern)).toBe(false);
      for (const value of ["a", "b", "]", "-", ""]) expect(globMatches(pattern, value), pattern).toBe(false);
      expect(globMatches(`x/${pattern}/**`, "x/a/b")).toBe(false);
    }
  });

  test("a class never crosses a slash", () => {
    for (const pattern of ["a[/]b", "a[^x]b", "a[.-0]b"]) expect(globMatches(pattern, "a/b")).toBe(false);
  });

  test("a pattern of many stars costs no more than its length times the value's", () => {
    const pattern = `${"*a".repeat(40)}*b`;
    const started = performance.now();
    for (let i = 0; i < 20; i++) expect(globMatches(pattern, "a".repeat(4_000))).toBe(false);
    expect(performance.now() - started).toBeLessThan(1_000);
  });

  test("a matcher written differently agrees on random patterns", () => {
    const seed = Number(process.env["BUREAU_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
    let state = seed;
    const random = (below: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
      return (state >> 8) % below;
    };
    const word = (alphabet: string, max: number): string =>
      Array.from({ length: random(max + 1) }, () => alphabet[random(alphabet.length)]).join("");
    for (let i = 0; i < 3_000; i++) {
      const pattern = word("ab*?/", 6);
      if (pattern.includes("**")) continue;
      const value = word("ab/", 6);
      expect(globMatches(pattern, value), `BUREAU_SEED=${seed}: ${pattern} ~ ${value}`).toBe(
        naive(pattern, value),
      );
    }
  });

  test("an empty list of patterns matches nothing", () => {
    expect(anyGlobMatches([], "a")).toBe(false);
    expect(anyGlobMatches(["b", "a"], "a")).toBe(true);
  });
});

/** By plain recursion over both strings. */
function naive(pattern: string, value: string): boolean {
  if (pattern === "") return value === "";
  const rest = pattern.slice(1);
  if (pattern[0] === "*")
    return naive(rest, value) || (value !== "" && value[0] !== "/" && naive(pattern, value.slice(1)));
  if (value === "") return false;
  return (pattern[0] === "?" ? value[0] !== "/" : pattern[0] === value[0]) && naive(rest, value.slice(1));
}

describe("user patterns", () => {
  test("match localpart and server apart, split at the last colon", () => {
    expect(userPatternMatcher("bureau/**:bureau.local")("@bureau/fleet/p/agent/x:bureau.local")).toBe(true);
    expect(userPatternMatcher("**:*")("@alice:example.org")).toBe(true);
    expect(userPatternMatcher("bureau/**:bureau.local")("@bureau/x:evil.org")).toBe(false);
    expect(userPatternMatcher("bureau/*:*")("@bureau/x/y:s")).toBe(false);
    expect(userPatternMatcher("**:b?reau.*")("@a:bureau.local")).toBe(true);
  });

  test("need a colon, and a user ID on the other side", () => {
    expect(userPatternMatcher("**")("@alice:example.org")).toBe(false);
    expect(userPatternMatcher("alice")("@alice:s")).toBe(false);
    expect(userPatternMatcher("**:*")("alice:s")).toBe(false);
    expect(userPatternMatcher("**:*")("@alice")).toBe(false);
    expect(userPatternMatcher("")("@alice:s")).toBe(false);
  });

  test("have no classes in the server part, and no server that only begins alike", () => {
    expect(userPatternMatcher("**:[a]")("@x:a")).toBe(false);
    expect(userPatternMatcher("**:bureau.local")("@x:bureau.local.evil.org")).toBe(false);
    expect(userPatternMatcher("**:bureau.local")("@x:bureau.local:8448")).toBe(false);
  });

  test("below a literal prefix agree with the same pattern written with a wildcard, for odd user IDs too", () => {
    const seed = Number(process.env["BUREAU_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
    let state = seed;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const pieces = ["@", "a", "b", "/", "/", ":", "s", "a/b", ":s"];
    const prefixes = ["a", "a/b", "a/", "a//b", "", "a:b", "@a"];
    for (let i = 0; i < 20_000; i++) {
      const user = `@${Array.from({ length: random(8) }, () => pieces[random(pieces.length)]).join("")}`;
      const prefix = prefixes[random(prefixes.length)] ?? "";
      // A server with a wildcard takes the general way. Both servers have one character.
      const general = userPatternMatcher(`${prefix}/**:?`)(user) && user.endsWith(":s");
      const what = `BUREAU_SEED=${seed}: ${prefix}/**:s ~ ${user}`;
      expect(userPatternMatcher(`${prefix}/**:s`)(user), what).toBe(general);
    }
  });
});

describe("lists of user patterns", () => {
  test("match when any does, and an empty list matches no user", () => {
    expect(anyUserMatcher(["b/**:s", "ann:s"])("@ann:s")).toBe(true);
    expect(anyUserMatcher(["b/**:s", "ann:s"])("@eve:s")).toBe(false);
    expect(anyUserMatcher([])("@ann:s")).toBe(false);
    expect(anyUserMatcher(undefined)("@ann:s")).toBe(false);
  });

  test("stay apart when their patterns only join alike", () => {
    expect(anyUserMatcher(["a:s,b:s", "c:s"])("@b:s")).toBe(false);
    expect(anyUserMatcher(["a:s", "b:s,c:s"])("@b:s")).toBe(false);
    expect(anyUserMatcher(["a:s", "b:s", "c:s"])("@b:s")).toBe(true);
  });
});
