import { expect, test } from "bun:test";
import {
  MachineReportSchema,
  ObserveErrorSchema,
  ObserveRequestSchema,
  principalStates,
} from "./observe-wire.ts";
import { InputError, parse } from "./parse.ts";

test("a request may be empty, and its line count has bounds", () => {
  expect(parse(ObserveRequestSchema, {}, "r")).toEqual({});
  for (const lines of [0, 50_001, 1.5, "10"])
    expect(() => parse(ObserveRequestSchema, { lines }, "r")).toThrow(InputError);
});

test("a report holds every state a principal can be in, and no other", () => {
  const report = (state: string) => ({
    ok: true,
    machine: { name: "m", user_id: "@m:s", state: "online", fleet: "f", version: "1" },
    daemon: { pid: 1, started_at: 1 },
    principals: [{ name: "agent/x", user_id: "@x:s", state, template: "t", restarts: 0 }],
  });
  for (const state of principalStates)
    expect(parse(MachineReportSchema, report(state), "r").principals[0]?.state).toBe(state);
  expect(() => parse(MachineReportSchema, report("dancing"), "r")).toThrow(InputError);
});

test("success and failure are told apart by ok", () => {
  expect(parse(ObserveErrorSchema, { ok: false, error: "no" }, "r").error).toBe("no");
  expect(() => parse(ObserveErrorSchema, { ok: true, error: "no" }, "r")).toThrow(InputError);
});
