import { describe, expect, test } from "bun:test";
import { type Flag, UsageError } from "./command.ts";
import { checkFlags } from "./flag-rules.ts";

const flags: Readonly<Record<string, Flag>> = {
  wait: { type: "boolean", summary: "" },
  timeout: { type: "string", needs: ["wait", "all"], summary: "" },
  all: { type: "boolean", excludes: ["machine"], summary: "" },
  machine: { type: "string", summary: "" },
  label: { type: "string", multiple: true, summary: "" },
  reason: { type: "string", mayBeEmpty: true, summary: "" },
};

const check = (values: Record<string, unknown>, given = Object.keys(values)): void =>
  checkFlags(flags, given, values, "tool act");

describe("refuses a flag that the command cannot obey", () => {
  for (const [what, act, said] of [
    ["given twice", () => check({ machine: "b" }, ["machine", "machine"]), "--machine is given twice"],
    ["empty", () => check({ machine: "" }), "--machine has an empty value"],
    ["one of several empty", () => check({ label: ["a=b", ""] }), "--label has an empty value"],
    [
      "without the flag that it belongs to",
      () => check({ timeout: "5m" }),
      "nothing without --wait or --all",
    ],
    [
      "with a flag that it contradicts",
      () => check({ all: true, machine: "a" }),
      "--all and --machine exclude each other",
    ],
  ] as const)
    test(what, () => {
      expect(act).toThrow(UsageError);
      expect(act).toThrow(said);
    });

  test("accepts all others", () => {
    check({ machine: "a", wait: true, timeout: "5m", label: ["a=b", "c=d"], reason: "" });
    check({ label: ["a=b", "c=d"] }, ["label", "label"]);
    check({ wait: true }, ["wait", "wait"]);
  });
});
