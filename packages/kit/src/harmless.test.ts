import { describe, expect, test } from "bun:test";
import { harmless, harmlessJson, harmlessLine } from "./harmless.ts";

describe("untrusted text", () => {
  test("has no terminal control character left", () => {
    const all = String.fromCharCode(...Array.from({ length: 0x100 }, (_, code) => code));
    expect(harmless(all)).not.toMatch(/[^\P{Cc}\n\t]/u);
    expect(harmlessLine(all)).not.toMatch(/\p{Cc}/u);
  });

  test("shows the escaped characters", () => {
    expect(harmless("\u001b]0;title\u0007\r\u009b31m")).toBe("\\x1b]0;title\\x07\\x0d\\x9b31m");
    expect(harmlessLine("one\ntwo")).toBe("one\\x0atwo");
    expect(harmless("user\u202etxt.exe")).toBe("user\\u{202e}txt.exe");
  });

  test("of every language stays as it is", () => {
    for (const text of ["naïve café", "日本語", "שלום", "👩‍💻", "a\tb\nc"]) expect(harmless(text)).toBe(text);
  });
});

test("JSON keeps its meaning and has no control characters", () => {
  const value = { a: "\u009b31m\u202e\u007f\u2028", list: ["\u001b[2J", "plain"] };
  const json = harmlessJson(JSON.stringify(value, null, 2));
  expect(JSON.parse(json)).toEqual(value);
  expect(harmless(json)).toBe(json);
});
