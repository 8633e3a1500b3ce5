import { describe, expect, test } from "bun:test";
import type { AuthorizationPolicy } from "@bureau/schema/authorization";
import { AuthorizationIndex } from "@bureau/schema/authorization-index";
import { type PrincipalAssignment, PrincipalAssignmentSchema } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import { parseUserId, type UserId } from "@bureau/schema/refs";
import { TurnedClock } from "../testing/turned-clock.ts";
import { type Authorize, authorizeBy, type DecisionRecord, enforceBy } from "./authorize.ts";
import { policySources } from "./policy-sources.ts";

const agent = parseUserId("@b/fleet/p/agent/a:s");
const other = parseUserId("@b/fleet/p/agent/b:s");
const person = parseUserId("@operator:s");

const assignment = (principal: UserId, rest: object = {}): PrincipalAssignment =>
  parse(PrincipalAssignmentSchema, { principal, template: "", auto_start: true, ...rest }, "assignment");

function machine(defaultPolicy: AuthorizationPolicy, ...assigned: PrincipalAssignment[]): Authorize {
  const byUser = new Map(assigned.map((one) => [one.principal, { assignment: one }]));
  const index = new AuthorizationIndex(policySources(defaultPolicy, byUser));
  return authorizeBy(() => index, new TurnedClock());
}

const observable: AuthorizationPolicy = { allowances: [{ actions: ["observe"], actors: ["operator:s"] }] };
const everything: AuthorizationPolicy = {
  grants: [{ actions: ["**"], targets: ["**:*"] }],
  allowances: [{ actions: ["**"], actors: ["**:*"] }],
};

test("everything is denied while no configuration is known", () => {
  const authorize = authorizeBy(() => undefined, new TurnedClock());
  expect(authorize(person, "observe", agent)).toEqual({
    allowed: false,
    reason: "no matching allowance on target",
  });
  expect(authorize(agent, "ticket/create", undefined)).toEqual({
    allowed: false,
    reason: "no matching grant",
  });
});

describe("the machine's default policy", () => {
  test("lets operators observe its principals, and a sandbox whose principal was taken out", () => {
    expect(machine(observable, assignment(agent))(person, "observe", agent).allowed).toBe(true);
    expect(machine(observable)(person, "observe", agent).allowed).toBe(true);
  });

  test("does not let them write, nor others observe", () => {
    const authorize = machine(observable, assignment(agent));
    expect(authorize(person, "observe/read-write", agent).allowed).toBe(false);
    expect(authorize(other, "observe", agent).allowed).toBe(false);
  });

  test("grants to principals of this machine only", () => {
    const authorize = machine(everything, assignment(agent));
    expect(authorize(agent, "interrupt", other).allowed).toBe(true);
    expect(authorize(other, "interrupt", agent)).toEqual({ allowed: false, reason: "no matching grant" });
    expect(authorize(person, "interrupt", agent)).toEqual({ allowed: false, reason: "no matching grant" });
  });

  test("denies what an assignment grants", () => {
    const denying = { denials: [{ actions: ["interrupt/**"], targets: ["**:*"] }] };
    const authorize = machine(denying, assignment(agent, { authorization: everything }));
    expect(authorize(agent, "interrupt", agent)).toMatchObject({ allowed: false, reason: "explicit denial" });
  });
});

describe("an assignment's policy", () => {
  test("is for its own principal, on both sides", () => {
    const authorize = machine({}, assignment(agent, { authorization: everything }), assignment(other));
    expect(authorize(agent, "interrupt", agent).allowed).toBe(true);
    expect(authorize(agent, "interrupt", other)).toMatchObject({
      allowed: false,
      reason: "no matching allowance on target",
    });
    expect(authorize(other, "interrupt", agent)).toEqual({ allowed: false, reason: "no matching grant" });
  });

  test("has shorthands that grant what they name", () => {
    const authorize = machine({}, assignment(agent, { matrix_policy: { allow_join: true } }));
    expect(authorize(agent, "matrix/join", undefined)).toMatchObject({
      allowed: true,
      grant: { source: "principal-shorthand" },
    });
    expect(authorize(agent, "matrix/invite", undefined).allowed).toBe(false);
  });

  test("allows nothing when the assignment cannot be read", () => {
    const index = new AuthorizationIndex(policySources({}, new Map([[agent, undefined]])));
    const authorize = authorizeBy(() => index, new TurnedClock());
    expect(authorize(person, "observe", agent).allowed).toBe(false);
  });

  test("gets no default grants when it cannot be read: its denials are not known", () => {
    const index = new AuthorizationIndex(policySources(everything, new Map([[agent, undefined]])));
    const authorize = authorizeBy(() => index, new TurnedClock());
    expect(authorize(agent, "interrupt", agent)).toEqual({ allowed: false, reason: "no matching grant" });
    expect(authorize(person, "observe", agent).allowed).toBe(true);
  });
});

describe("a template's policy", () => {
  const made = (template: AuthorizationPolicy): Authorize => {
    const assigned = new Map([
      [agent, { assignment: assignment(agent, { authorization: everything }), template }],
    ]);
    const index = new AuthorizationIndex(policySources({}, assigned));
    return authorizeBy(() => index, new TurnedClock());
  };

  test("denies what the assignment grants", () => {
    const authorize = made({ denials: [{ actions: ["interrupt/**"], targets: ["**:*"] }] });
    expect(authorize(agent, "interrupt", agent)).toMatchObject({
      allowed: false,
      reason: "explicit denial",
      denial: { source: "template" },
    });
    expect(authorize(agent, "fleet/info", agent).allowed).toBe(true);
  });

  test("denies others what the assignment allows them", () => {
    const authorize = made({ allowance_denials: [{ actions: ["observe/**"], actors: ["operator:s"] }] });
    expect(authorize(person, "observe", agent)).toMatchObject({
      reason: "explicit allowance denial on target",
    });
  });
});

describe("enforcement", () => {
  const records: DecisionRecord[] = [];
  const enforce = enforceBy(machine(observable, assignment(agent)), (record) => records.push(record));

  test("records what it allows", () => {
    expect(enforce(person, "observe", agent, "daemon/observe").allowed).toBe(true);
    expect(records.pop()).toMatchObject({ actor: person, action: "observe", target: agent });
  });

  test("records what it denies, and names the command that explains it", () => {
    expect(() => enforce(other, "observe", agent, "daemon/observe")).toThrow(
      expect.objectContaining({ code: "forbidden", hint: `bureau auth check ${other} observe ${agent}` }),
    );
    expect(records.pop()).toMatchObject({ decision: { reason: "no matching allowance on target" } });
  });
});
