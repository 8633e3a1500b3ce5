import { expect, test } from "bun:test";
import { MatrixError } from "../http/matrix-error.ts";
import { compileEventFilter, compileSyncFilter } from "./event-filter.ts";

const accepts = (filter: object, type: string, sender = "@a:x"): boolean =>
  compileEventFilter({ ...filter }).accepts({ type, sender });

test("no filter accepts everything, and an empty list of types nothing", () => {
  expect(accepts({}, "m.any")).toBe(true);
  expect(accepts({ types: [] }, "m.any")).toBe(false);
  expect(compileEventFilter({ types: [] }).passesNothing).toBe(true);
  expect(compileEventFilter({ not_types: [] }).passesNothing).toBe(false);
});

test("a star matches any text at any position", () => {
  for (const [pattern, type, wanted] of [
    ["m.room.*", "m.room.member", true],
    ["m.room.*", "m.room", false],
    ["*", "m.anything", true],
    ["*.status", "m.bureau.status", true],
    ["*.status", "m.bureau.status.more", false],
    ["m.*.machine_*", "m.bureau.machine_key", true],
    ["m.*.machine_*", "m.machine_key", false],
    ["a*b*c", "abc", true],
    ["a*b*c", "acb", false],
    ["ab*ba", "aba", false],
  ] as const) {
    expect([pattern, type, accepts({ types: [pattern] }, type)]).toEqual([pattern, type, wanted]);
  }
});

test("a pattern of many stars does not backtrack", () => {
  const began = performance.now();
  expect(accepts({ types: [`${"*a".repeat(100)}b`] }, "a".repeat(255))).toBe(false);
  // Trying all of them would take longer than a century.
  expect(performance.now() - began).toBeLessThan(10_000);
});

test("an exclusion wins over an inclusion", () => {
  expect(accepts({ types: ["m.room.*"], not_types: ["m.room.member"] }, "m.room.member")).toBe(false);
  expect(accepts({ senders: ["@a:x"], not_senders: ["@a:x"] }, "m.any")).toBe(false);
  expect(accepts({ not_senders: ["@a:x"] }, "m.any", "@b:x")).toBe(true);
});

test("contains_url selects events with a url, or without", () => {
  const content = (wants: boolean, url?: unknown): boolean =>
    compileEventFilter({ contains_url: wants }).acceptsContent(url === undefined ? {} : { url: String(url) });
  expect([content(true, "mxc://x/y"), content(true), content(false, "mxc://x/y"), content(false)]).toEqual([
    true,
    false,
    false,
    true,
  ]);
});

test("limits have a default and a cap", () => {
  expect(compileEventFilter({}).limit).toBe(20);
  expect(compileEventFilter({ limit: 3 }).limit).toBe(3);
  expect(compileEventFilter({ limit: 1_000_000 }).limit).toBe(1_000);
});

test("both lists select rooms", () => {
  const filter = compileSyncFilter({ room: { rooms: ["!a:x", "!b:x"], not_rooms: ["!b:x"] } });
  expect(["!a:x", "!b:x", "!c:x"].map(filter.room.acceptsRoom)).toEqual([true, false, false]);
});

test("a filter of the wrong shape is M_BAD_JSON", () => {
  for (const bad of [
    { room: 1 },
    { room: { timeline: { types: "m.x" } } },
    { room: { state: { limit: 1.5 } } },
  ]) {
    expect(() => compileSyncFilter(bad as never)).toThrow(MatrixError);
  }
});
