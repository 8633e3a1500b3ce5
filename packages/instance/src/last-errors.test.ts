import { expect, test } from "bun:test";
import { lastErrors } from "./last-errors.ts";

const line = (level: string, message: string, more = {}): string =>
  JSON.stringify({ time: "2026-01-31T09:30:00.000Z", level, program: "bureau-launcher", message, ...more });

test("shows the end of a program's log as sentences, each once, with the last hint", () => {
  const log = [
    line("info", "stopping", { signal: "SIGTERM" }),
    line("error", "Cannot use the key", { hint: "restore it", stack: "at main.js:1" }),
    line("warn", "the run folder is long"),
    line("error", "Cannot use the key", { hint: "restore it", stack: "at main.js:1" }),
  ].join("\n");
  expect(lastErrors(`${log}\n`)).toEqual({ errors: ["Cannot use the key"], hint: "restore it" });
});

test("shows a line by the runtime unchanged, and nothing for an empty log", () => {
  expect(lastErrors("Illegal instruction\n")).toEqual({ errors: ["Illegal instruction"], hint: "" });
  expect(lastErrors("")).toEqual({ errors: [], hint: "" });
});
