import { describe, expect, test } from "bun:test";
import type { AuthorizationReply } from "@bureau/schema/observe-wire";
import { parseMachine, parseServerName, parseUserId } from "@bureau/schema/refs";
import { typedAction, typedPattern, typedUser } from "../command/typed-users.ts";
import { fixesFor } from "./fix.ts";

const machine = parseMachine("b/fleet/p/machine/m");
const server = parseServerName("s");
const actor = parseUserId("@b/fleet/p/agent/demo:s");
const target = parseUserId("@b/fleet/p/agent/greeter:s");
const nowMs = Date.parse("2026-06-01T12:00:00Z");
const reply = (rest: object = {}): AuthorizationReply => ({
  ok: true,
  decision: "deny",
  reason: undefined,
  ...rest,
});
const fixes = (rest: object, action = "interrupt") =>
  fixesFor({ machine, actor, action, target }, reply(rest), nowMs);

describe("what would allow a denied act", () => {
  test("is a grant and an allowance when both are missing", () => {
    expect(fixes({})).toEqual([
      "bureau auth grant agent/demo interrupt --target agent/greeter --for 1h",
      "bureau auth allow agent/greeter interrupt --actor agent/demo",
    ]);
  });

  test("is a single command when only a grant or an allowance is missing", () => {
    const allowances = [{ actions: ["interrupt"], actors: ["**:*"] }];
    expect(fixes({ target_allowances: allowances })).toEqual([
      "bureau auth grant agent/demo interrupt --target agent/greeter --for 1h",
    ]);
    const grants = [{ actions: ["interrupt"], targets: ["**:*"] }];
    expect(fixes({ actor_grants: grants })).toEqual([
      "bureau auth allow agent/greeter interrupt --actor agent/demo",
    ]);
  });

  test("is an allowance alone for observation", () => {
    expect(fixes({}, "observe")).toEqual(["bureau auth allow agent/greeter observe --actor agent/demo"]);
  });

  test("needs no target for an act on oneself", () => {
    expect(fixesFor({ machine, actor, action: "matrix/join", target: undefined }, reply(), nowMs)).toEqual([
      "bureau auth grant agent/demo matrix/join --for 1h",
    ]);
  });

  test("names the place of a denial, which no grant outweighs", () => {
    const denials = [{ actions: ["**"], targets: ["**:*"], source: "template" }];
    expect(fixes({ actor_denials: denials })).toContain(
      "remove the rule from denials in authorization of the m.bureau.template of agent/demo",
    );
    const allowance_denials = [{ actions: ["**"], actors: ["**:*"], source: "machine-default" }];
    expect(fixes({ target_allowance_denials: allowance_denials })).toContain(
      "remove the rule from allowance_denials in default_policy of the machine's m.bureau.machine_config",
    );
  });
});

describe("users as people type them", () => {
  test("are principals of the fleet, or persons after @", () => {
    expect(typedUser(machine, server, "demo")).toBe(actor);
    expect(typedUser(machine, server, "agent/demo")).toBe(actor);
    expect(typedUser(machine, server, "@ann")).toBe(parseUserId("@ann:s"));
    expect(typedUser(machine, server, "@ann:other.org")).toBe(parseUserId("@ann:other.org"));
  });

  test("become the wire's patterns", () => {
    expect(typedPattern(machine, server, "demo")).toBe("b/fleet/p/agent/demo:s");
    expect(typedPattern(machine, server, "agent/**")).toBe("b/fleet/p/agent/**:s");
    expect(typedPattern(machine, server, "**")).toBe("**:*");
    expect(typedPattern(machine, server, "x/**:*")).toBe("x/**:*");
    expect(typedPattern(machine, server, "@a*")).toBe("a*:s");
  });

  test("an action has words between its slashes", () => {
    expect(typedAction("observe/**")).toBe("observe/**");
    for (const bad of ["", "a b", "/a", "a/", "a//b"])
      expect(() => typedAction(bad)).toThrow("is not an action");
  });
});
