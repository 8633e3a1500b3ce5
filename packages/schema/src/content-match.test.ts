import { describe, expect, test } from "bun:test";
import { ContentMatchSchema, contentMatches } from "./content-match.ts";
import { InputError, parse } from "./parse.ts";

const matches = (match: unknown, content: Record<string, unknown>): boolean =>
  contentMatches(parse(ContentMatchSchema, match, "content match"), content);

describe("content matches", () => {
  test("no conditions match everything; each named field must be there", () => {
    expect(matches({}, {})).toBe(true);
    expect(matches({ a: 1 }, {})).toBe(false);
    expect(matches({ a: 1, b: 2 }, { a: 1 })).toBe(false);
    expect(matches({ a: 1, b: 2 }, { a: 1, b: 2, c: 3 })).toBe(true);
    expect(matches({ toString: "x" }, {})).toBe(false);
  });

  test("a bare scalar is equality, strict in type", () => {
    expect(matches({ a: "1" }, { a: "1" })).toBe(true);
    expect(matches({ a: "1" }, { a: 1 })).toBe(false);
    expect(matches({ a: true }, { a: "true" })).toBe(false);
    expect(matches({ a: false }, { a: 0 })).toBe(false);
    expect(matches({ a: 0 }, { a: null })).toBe(false);
    expect(matches({ a: "" }, { a: {} })).toBe(false);
  });

  test("operators all have to hold", () => {
    expect(matches({ n: { $gt: 1, $lt: 3 } }, { n: 2 })).toBe(true);
    expect(matches({ n: { $gt: 1, $lt: 3 } }, { n: 3 })).toBe(false);
    expect(matches({ n: { $gte: 1, $lte: 3 } }, { n: 3 })).toBe(true);
    expect(matches({ n: { $gte: 1, $lte: 3 } }, { n: 1 })).toBe(true);
    expect(matches({ n: { $gte: 1 } }, { n: 0.999 })).toBe(false);
    expect(matches({ n: { $lte: 1 } }, { n: 1.001 })).toBe(false);
    expect(matches({ n: { $eq: 2, $in: [1, 2] } }, { n: 2 })).toBe(true);
    expect(matches({ n: { $eq: 2, $in: [1] } }, { n: 2 })).toBe(false);
    expect(matches({ s: { $in: ["a", 1, true] } }, { s: true })).toBe(true);
  });

  test("order is for numbers only", () => {
    for (const value of ["5", null, true, {}]) expect(matches({ n: { $gt: 1 } }, { n: value })).toBe(false);
  });

  test("an array matches when any element does", () => {
    expect(matches({ tags: "b" }, { tags: ["a", "b"] })).toBe(true);
    expect(matches({ tags: "c" }, { tags: ["a", "b"] })).toBe(false);
    expect(matches({ tags: "c" }, { tags: [] })).toBe(false);
    expect(matches({ n: { $gt: 5 } }, { n: [1, 9] })).toBe(true);
    expect(matches({ n: { $gt: 5, $lt: 3 } }, { n: [1, 9] })).toBe(false);
  });

  test("null, empty objects, unknown operators and empty $in are illegal", () => {
    for (const bad of [null, {}, { $ne: 1 }, { $eq: 1, $regex: "x" }, { $in: [] }, { $in: [null] }, [1]])
      expect(() => matches({ a: bad }, { a: 1 }), JSON.stringify(bad)).toThrow(InputError);
    for (const bad of [{ $gt: "1" }, { $eq: null }, { $eq: {} }, { $in: "ab" }])
      expect(() => matches({ a: bad }, { a: 1 }), JSON.stringify(bad)).toThrow(InputError);
    for (const bad of [null, [], "x", 1])
      if (!Array.isArray(bad)) expect(() => matches(bad, {})).toThrow(InputError);
  });

  test("a condition is never dropped: a field that cannot be held is refused", () => {
    for (const field of ["constructor", "prototype", "__proto__"])
      expect(() => matches(JSON.parse(`{"${field}": "x"}`), {})).toThrow(InputError);
  });
});
