import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { InputError, jsonObject, list, mapOf, parse, parseJson, ref, unset } from "./parse.ts";
import { parseFleet } from "./refs.ts";

const faultsOf = (act: () => unknown): readonly string[] => {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    return (error as InputError).faults;
  }
  throw new Error("it did not throw");
};

describe("parse", () => {
  test("gives the value, without the fields the schema does not name", () => {
    expect(parse(v.object({ a: v.number() }), { a: 1, b: 2 }, "thing")).toEqual({ a: 1 });
  });

  test("names the input, the path of the fault and the expected value", () => {
    const schema = v.object({ command: v.array(v.string()) });
    expect(() => parse(schema, { command: ["a", 5] }, 'template "x"')).toThrow(
      /^Invalid template "x": command\.1: .*string.*5/,
    );
  });

  test("names a few faults, each of bounded length", () => {
    const numbers = v.array(v.number());
    expect(faultsOf(() => parse(numbers, Array(50).fill("x"), "n"))).toHaveLength(5);
    const [fault] = faultsOf(() => parse(v.number(), "y".repeat(100_000), "n"));
    expect(fault?.length).toBeLessThan(400);
  });

  test("text that is not JSON is an input error too", () => {
    expect(parseJson(v.number(), "5", "n")).toBe(5);
    expect(faultsOf(() => parseJson(v.number(), "{", "n"))[0]).toContain("not JSON");
    expect(faultsOf(() => parseJson(v.number(), '"5"', "n"))).toHaveLength(1);
  });
});

describe("fields other writers leave unset", () => {
  const schema = v.object({ s: unset(v.picklist(["a", "b"])), l: v.optional(list(v.string())) });

  test('"", null and nothing all read as absent', () => {
    for (const value of ["", null, undefined]) expect(parse(schema, { s: value }, "x").s).toBeUndefined();
    expect(parse(schema, {}, "x").s).toBeUndefined();
    expect(parse(schema, { s: "b" }, "x").s).toBe("b");
    expect(() => parse(schema, { s: "c" }, "x")).toThrow(InputError);
    expect(() => parse(schema, { s: 0 }, "x")).toThrow(InputError);
  });

  test("a list may be null, and a required one may be missing", () => {
    expect(parse(schema, { l: null }, "x").l).toEqual([]);
    expect(parse(schema, {}, "x").l).toBeUndefined();
    expect(parse(v.object({ l: list(v.string()) }), {}, "x").l).toEqual([]);
    expect(() => parse(schema, { l: "a" }, "x")).toThrow(InputError);
    expect(() => parse(schema, { l: [null] }, "x")).toThrow(InputError);
  });

  test("one default list is not shared by two values", () => {
    const item = list(v.string());
    expect(parse(item, null, "a")).not.toBe(parse(item, null, "b"));
  });
});

test("a ref schema passes on the rule that was broken", () => {
  const schema = v.object({ fleet: ref(parseFleet) });
  expect(parse(schema, { fleet: "b/fleet/p" }, "x").fleet as string).toBe("b/fleet/p");
  expect(faultsOf(() => parse(schema, { fleet: "b" }, "x"))[0]).toContain("<namespace>/fleet/<name>");
  expect(faultsOf(() => parse(schema, { fleet: 5 }, "x"))).toHaveLength(1);
});

test("a map refuses the keys that it would lose, and a list", () => {
  const schema = v.object({ environment_variables: v.optional(mapOf(v.string())) });
  const read = (map: string) => parseJson(schema, `{"environment_variables":${map}}`, "x");
  expect(read('{"A":"1","toString":"2"}').environment_variables).toEqual({ A: "1", toString: "2" });
  for (const key of ["__proto__", "prototype", "constructor"])
    expect(faultsOf(() => read(`{"A":"1","${key}":"2"}`))).toEqual([
      `environment_variables: a key may not be called "${key}"`,
    ]);
  expect(faultsOf(() => read('["1"]'))[0]).toContain("expected an object but received Array");
  expect(faultsOf(() => read('{"A":1}'))[0]).toStartWith("environment_variables.A: ");
});

test("accepts an object with every key, and no list", () => {
  const text = '{"__proto__":{"a":1},"constructor":2,"prototype":3,"b":{"__proto__":4}}';
  expect(JSON.stringify(parseJson(jsonObject, text, "x"))).toBe(text);
  expect(
    JSON.stringify(parseJson(v.object({ payload: jsonObject }), `{"payload":${text}}`, "x").payload),
  ).toBe(text);
  for (const other of ["[1]", "null", '"a"', "1"])
    expect(faultsOf(() => parseJson(jsonObject, other, "x"))[0]).toContain("expected an object but received");
});

test("a string in place of an object is not quoted: it may be a secret", () => {
  const schema = v.object({ payload: jsonObject });
  expect(faultsOf(() => parseJson(schema, '{"payload":"sk-secret"}', "x"))).toEqual([
    "payload: expected an object but received a string",
  ]);
});
