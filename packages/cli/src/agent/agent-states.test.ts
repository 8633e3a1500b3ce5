import { describe, expect, test } from "bun:test";
import { isOnline, type ListedMachine } from "@bureau/control/machines/list-machines";
import { presenceOf } from "@bureau/control/machines/presence";
import { parseFleet, parseMachine, parseUserId } from "@bureau/schema/refs";
import { absenceOf } from "../machine/absence.ts";
import { statesThere } from "./agent-states.ts";

const now = Date.parse("2026-01-31T09:30:00Z");
const name = parseMachine(`${parseFleet("bureau/fleet/prod")}/machine/gpu`);
const principal = parseUserId("@bureau/fleet/prod/agent/demo:acme.test");
const assignment = { principal, template: "bureau/template:agent", auto_start: true } as const;
const machine = (ageSeconds: number, more: Partial<ListedMachine> = {}): ListedMachine => ({
  name,
  user_id: `@${name}:acme.test`,
  public_key: "age1x",
  principals: {},
  last_seen: new Date(now - ageSeconds * 1_000).toISOString(),
  ...more,
});
const busy = (status: "running" | "idle" | "starting") =>
  machine(1, { principals: { [principal]: { cpu_percent: 0, memory_mb: 1, status } } });

describe("a machine", () => {
  test("is offline when its heartbeat is 210 s old", () => {
    expect(isOnline(machine(209), now)).toBe(true);
    expect(isOnline(machine(210), now)).toBe(false);
    expect(absenceOf(presenceOf(machine(3_600), now), now)).toBe(
      "is offline since 2026-01-31T08:30:00Z (1 h ago)",
    );
    const { last_seen: _, ...never } = machine(1);
    expect(absenceOf(presenceOf(never, now), now)).toBe("has never been online");
  });
});

describe("an agent of another machine", () => {
  const stateOf = (seen: Parameters<typeof statesThere>[1], of = assignment) =>
    statesThere(name, seen, now)(of);

  test("has the state from the heartbeat", () => {
    expect(stateOf(busy("idle"))).toEqual({ state: "running" });
    expect(stateOf(busy("running"))).toEqual({ state: "running" });
    expect(stateOf(busy("starting"))).toEqual({ state: "starting" });
    expect(stateOf(machine(5))).toMatchObject({ state: "not-running" });
    expect(stateOf(machine(5), { ...assignment, auto_start: false } as never)).toEqual({ state: "stopped" });
  });

  test("is unknown, with a reason, without a heartbeat", () => {
    for (const [seen, why] of [
      [machine(600), `${name} is offline since`],
      [undefined, `${name} has not joined the fleet`],
      ["forbidden", "you may not read"],
      [machine(5, { principals: undefined }), "does not report its agents"],
      [machine(5, { principals_omitted: 1 }), "more agents than a heartbeat lists"],
    ] as const)
      expect(stateOf(seen)).toMatchObject({ state: "unknown", reason: expect.stringContaining(why) });
  });
});
