import { describe, expect, test } from "bun:test";
import { checkContent, checkEvent } from "./event-content.ts";

const check = (content: unknown) => () => checkContent(content, "m.test");

describe("content that no Matrix event can hold", () => {
  test("is reported with its path before anything is sent", () => {
    expect(check({ payload: { list: [1, { t: 0.5 }] } })).toThrow(
      'Cannot write m.test: "payload.list.1.t" is 0.5',
    );
    expect(check({ n: 2 ** 53 })).toThrow('"n" is 9007199254740992');
    expect(check({ n: Number.POSITIVE_INFINITY })).toThrow('"n" is Infinity');
    expect(check({ text: "\ud800" })).toThrow('"text" is not valid Unicode');
  });

  test("is refused with its size", () => {
    expect(check({ text: "x".repeat(70_000) })).toThrow(/it would have 70\d{3} bytes, .* holds 65536/u);
    expect(check({ text: "ä".repeat(32_768) })).toThrow("holds 65536");
  });

  test("is refused for its type, its state key, and when it is not an object", () => {
    expect(() => checkEvent("", "", {})).toThrow("without a type");
    expect(() => checkEvent("m.test", "k".repeat(256), {})).toThrow("its state key has 256 bytes");
    expect(() => checkEvent("m".repeat(256), undefined, {})).toThrow("its type has 256 bytes");
    for (const content of [[], null, "a", 1]) expect(check(content)).toThrow("it is not a JSON object");
    checkEvent("m.test", "k".repeat(255), {});
  });

  test("everything else passes", () => {
    check({ n: -1, t: true, z: null, o: {}, l: [[]], text: "x".repeat(60_000), left: undefined })();
  });
});
