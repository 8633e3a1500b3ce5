import { describe, expect, test } from "bun:test";
import type { Decision } from "@bureau/schema/authorization";
import { parseUserId } from "@bureau/schema/refs";
import { recordOf } from "./record-of.ts";

const actor = parseUserId("@operator:s");
const target = parseUserId("@b/fleet/p/agent/a:s");
const machine = parseUserId("@b/fleet/p/machine/m:s");
const act = (action: string, decision: Decision) => ({
  actor,
  action,
  target,
  decision,
  point: "daemon/observe",
});

describe("is recorded", () => {
  test("every denial, with the reason and the rules that matched", () => {
    const allowance = { actions: ["observe"], actors: ["**:*"] };
    const denied: Decision = {
      allowed: false,
      reason: "explicit allowance denial on target",
      allowance,
      allowanceDenial: { actions: ["**"], actors: ["operator:s"], source: "principal" },
    };
    expect(recordOf(act("observe", denied), machine)).toEqual({
      decision: "deny",
      actor,
      action: "observe",
      target,
      reason: "explicit allowance denial on target",
      enforcement_point: "daemon/observe",
      machine,
      matched_allowance: allowance,
      matched_allowance_denial: { actions: ["**"], actors: ["operator:s"], source: "principal" },
    });
  });

  test.each([
    "credential/provision/key/TOKEN",
    "credential/use/room:key",
    "interrupt",
    "interrupt/terminate",
    "fleet/drain",
    "observe/read-write",
    "grant/approve/observe",
  ])("the use of the sensitive action %s, with the ticket and end of its grant", (action) => {
    const grant = { actions: ["**"], ticket: "tkt-1", expires_at: "2026-12-01T00:00:00Z" };
    expect(recordOf(act(action, { allowed: true, grant }), machine)).toMatchObject({
      decision: "allow",
      action,
      matched_grant: grant,
      ticket: "tkt-1",
      expires_at: "2026-12-01T00:00:00Z",
    });
  });
});

test.each(["observe", "matrix/join", "ticket/create", "interrupts", "fleets/x"])(
  "the allowed act %s is not recorded",
  (action) => expect(recordOf(act(action, { allowed: true }), machine)).toBeUndefined(),
);

test("text from outside has a limit and no control characters, and a rule has a size", () => {
  const denied: Decision = {
    allowed: false,
    reason: "explicit denial",
    denial: { actions: Array.from({ length: 1_000 }, (_, n) => `act/${n}`), source: "machine-default" },
  };
  const record = recordOf(act(`a\n\u001b[2J\ud800${"x".repeat(10_000)}`, denied), machine);
  expect(record?.action).toStartWith("a\u{fffd}\u{fffd}[2J\u{fffd}x");
  expect(record?.action).toHaveLength(513);
  expect(record?.matched_denial).toEqual({
    actions: ["act/0", "act/1", "act/2", "act/3", "act/4"],
    source: "machine-default",
  });
});
