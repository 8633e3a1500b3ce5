import { expect, test } from "bun:test";
import { checkFlagHelp } from "./flag-help.ts";

const tree = (flags: Readonly<Record<string, { type: "string" | "boolean"; summary: string }>>) => ({
  name: "bureau",
  summary: "Runs agents in sandboxes",
  commands: [{ name: "up", summary: "Start a Bureau on this machine", flags }],
});
const check = (flag: object, docs = "") =>
  checkFlagHelp(
    tree({ name: { type: "boolean", summary: "Says what it does", ...flag } }),
    new Map([["docs/a.md", docs]]),
  );

test("accepts help that is one line, and a value that has a name", () => {
  expect(check({})).toEqual([]);
  expect(check({ type: "string", value: "PATH" })).toEqual([]);
});

test("finds help that is missing, long, in another form, or without a value's name", () => {
  for (const summary of ["", "no", "Ends with a stop.", "Two\nlines of help", "Long ".repeat(30)])
    expect(check({ summary }), summary).toHaveLength(1);
  expect(check({ type: "string" })[0]).toBe("bureau up --name: its help names no value, such as PATH");
});

test("finds a hidden flag in the docs", () => {
  expect(check({ hidden: true }, "use --name here")).toEqual([
    "docs/a.md: shows bureau up --name, which is hidden",
  ]);
  expect(check({ hidden: true }, "use --names here")).toEqual([]);
  expect(check({}, "use --name here")).toEqual([]);
});
