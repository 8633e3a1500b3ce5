import { describe, expect, test } from "bun:test";
import { UsageError } from "./command.ts";
import { parseLabel, parseVariable } from "./key-value.ts";

describe("KEY=VALUE", () => {
  test("is split at the first equals sign; the value may be anything, or nothing", () => {
    expect(parseVariable("A=b=c d")).toEqual(["A", "b=c d"]);
    expect(parseVariable("A=")).toEqual(["A", ""]);
    expect(parseLabel("gpu.kind/x-1=a100", "Label")).toEqual(["gpu.kind/x-1", "a100"]);
  });

  test("refuses a key that an object cannot hold", () => {
    for (const parseTyped of [parseVariable, (text: string) => parseLabel(text, "Label")])
      expect(() => parseTyped("constructor=1")).toThrow(/"constructor" is not allowed as a name/);
    expect(() => parseVariable("__proto__=1")).toThrow(UsageError);
  });

  for (const [typed, parseTyped] of [
    ["A", parseVariable],
    ["=b", parseVariable],
    ["", parseVariable],
    ["A B=c", parseVariable],
    ["1A=c", parseVariable],
    ["two words=x", (text: string) => parseLabel(text, "Label")],
    ["-x=y", (text: string) => parseLabel(text, "Label")],
  ] as const)
    test(`refuses "${typed}" with the typed text and the expected form`, () => {
      expect(() => parseTyped(typed)).toThrow(UsageError);
      expect(() => parseTyped(typed)).toThrow(new RegExp(`"${typed}" is not (NAME|KEY)=VALUE`));
    });
});
