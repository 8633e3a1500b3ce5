import { describe, expect, test } from "bun:test";
import {
  type AuthorizationPolicy,
  AuthorizationPolicySchema,
  checkGrants as checkAllGrants,
  decide,
  decideAllowances,
  joinPolicies,
  rulesOf,
} from "./authorization.ts";
import { parse } from "./parse.ts";

const checkGrants = (policy: AuthorizationPolicy, action: string, target: string | undefined, at: number) =>
  checkAllGrants([policy], action, target, at);
const checkAllowances = (policy: AuthorizationPolicy, action: string, by: string) =>
  decideAllowances(rulesOf([policy], action), by);
const nowMs = Date.parse("2026-06-01T12:00:00Z");
const actor = "@b/fleet/p/agent/actor:s";
const target = "@b/fleet/p/agent/target:s";
const granting: AuthorizationPolicy = { grants: [{ actions: ["observe/**"], targets: ["b/**:s"] }] };
const allowing: AuthorizationPolicy = { allowances: [{ actions: ["observe/**"], actors: ["b/**:s"] }] };
const denied = (reason: string) => ({ allowed: false, reason });

describe("grants", () => {
  test("are required: no grant, no permission", () => {
    expect(checkGrants({}, "observe", target, nowMs)).toMatchObject(denied("no matching grant") as never);
    expect(checkGrants({ grants: [] }, "observe", undefined, nowMs).allowed).toBe(false);
    expect(checkGrants({ grants: [{ actions: [] }] }, "observe", undefined, nowMs).allowed).toBe(false);
  });

  test("a grant holds for its actions and targets only", () => {
    expect(checkGrants(granting, "observe/input", target, nowMs).allowed).toBe(true);
    expect(checkGrants(granting, "interrupt", target, nowMs).allowed).toBe(false);
    expect(checkGrants(granting, "observe", "@b/x:elsewhere", nowMs).allowed).toBe(false);
  });

  test("a grant without targets is for acts on oneself", () => {
    const policy = { grants: [{ actions: ["ticket/create"] }] };
    expect(checkGrants(policy, "ticket/create", undefined, nowMs).allowed).toBe(true);
    expect(checkGrants(policy, "ticket/create", target, nowMs).allowed).toBe(false);
  });

  test("a grant expires at its time, and a later one beside it still holds", () => {
    const at = (expires_at: string) => ({ grants: [{ actions: ["a"], expires_at }] });
    expect(checkGrants(at("2026-06-01T12:00:01Z"), "a", undefined, nowMs).allowed).toBe(true);
    expect(checkGrants(at("2026-06-01T14:00:01+02:00"), "a", undefined, nowMs).allowed).toBe(true);
    expect(checkGrants(at("2026-06-01T12:00:00Z"), "a", undefined, nowMs)).toMatchObject(
      denied("matching grant expired") as never,
    );
    const both = joinPolicies(at("2020-01-01T00:00:00Z"), { grants: [{ actions: ["a"] }] });
    expect(checkGrants(both, "a", undefined, nowMs).allowed).toBe(true);
  });

  test("an expiry that is not RFC 3339 counts as past", () => {
    for (const expires_at of ["never", "2099", "2099-01-01", "2099-01-01T00:00:00", "2099-13-01T00:00:00Z"])
      expect(checkGrants({ grants: [{ actions: ["a"], expires_at }] }, "a", undefined, nowMs)).toMatchObject(
        denied("matching grant expired") as never,
      );
  });

  test("a denial beats every grant, for its targets", () => {
    const policy = { ...granting, denials: [{ actions: ["observe/input"], targets: [target.slice(1)] }] };
    expect(checkGrants(policy, "observe/input", target, nowMs)).toMatchObject(
      denied("explicit denial") as never,
    );
    expect(checkGrants(policy, "observe", target, nowMs).allowed).toBe(true);
    expect(checkGrants(policy, "observe/input", "@b/other:s", nowMs).allowed).toBe(true);
    expect(checkGrants(policy, "observe/input", undefined, nowMs).allowed).toBe(false);
  });

  test("a missing grant is the reason, also when a denial matches too", () => {
    const policy = { denials: [{ actions: ["**"], targets: ["**:**"] }] };
    expect(checkGrants(policy, "a", target, nowMs)).toMatchObject(denied("no matching grant") as never);
  });
});

describe("allowances", () => {
  test("are required: no allowance, no permission", () => {
    expect(checkAllowances({}, "observe", actor)).toMatchObject(
      denied("no matching allowance on target") as never,
    );
  });

  test("hold for their actions and actors only", () => {
    expect(checkAllowances(allowing, "observe", actor).allowed).toBe(true);
    expect(checkAllowances(allowing, "interrupt", actor).allowed).toBe(false);
    expect(checkAllowances(allowing, "observe", "@b/x:evil").allowed).toBe(false);
    expect(
      checkAllowances({ allowances: [{ actions: ["observe"], actors: [] }] }, "observe", actor).allowed,
    ).toBe(false);
  });

  test("an allowance denial beats them", () => {
    const policy = { ...allowing, allowance_denials: [{ actions: ["**"], actors: [actor.slice(1)] }] };
    expect(checkAllowances(policy, "observe", actor)).toMatchObject(
      denied("explicit allowance denial on target") as never,
    );
    expect(checkAllowances(policy, "observe", "@b/other:s").allowed).toBe(true);
  });
});

describe("both sides", () => {
  const check = (mine: AuthorizationPolicy, theirs: AuthorizationPolicy | undefined) =>
    decide(
      { user: actor, rules: rulesOf([mine], "observe") },
      theirs === undefined ? undefined : { user: target, rules: rulesOf([theirs], "observe") },
      nowMs,
    ) as unknown;

  test("must agree, and are asked in the order of the wire", () => {
    const both = { allowed: true, grant: granting.grants?.[0], allowance: allowing.allowances?.[0] };
    expect(check(granting, allowing)).toEqual(both);
    expect(check({}, allowing)).toMatchObject(denied("no matching grant"));
    expect(check(granting, {})).toMatchObject(denied("no matching allowance on target"));
    const denying = { ...granting, denials: [{ actions: ["**"], targets: ["**:*"] }] };
    const refusing = { ...allowing, allowance_denials: [{ actions: ["**"], actors: ["**:*"] }] };
    expect(check(denying, refusing)).toMatchObject(denied("explicit denial"));
    expect(check(granting, refusing)).toMatchObject(denied("explicit allowance denial on target"));
  });

  test("an act on oneself needs no allowance", () => {
    expect(check(granting, undefined)).toEqual({ allowed: true, grant: granting.grants?.[0] });
  });
});

test("joined policies keep every denial", () => {
  const joined = joinPolicies(granting, undefined, { denials: [{ actions: ["**"], targets: ["**:*"] }] });
  expect(checkGrants(joined, "observe", target, nowMs)).toMatchObject(denied("explicit denial") as never);
  expect(joinPolicies()).toEqual({ grants: [], denials: [], allowances: [], allowance_denials: [] });
});

test("lists written as null and times written as empty text read as absent", () => {
  const policy = parse(
    AuthorizationPolicySchema,
    { grants: [{ actions: ["a"], targets: null, expires_at: "", granted_by: null }], denials: null },
    "policy",
  );
  expect(checkGrants(policy, "a", undefined, nowMs).allowed).toBe(true);
  expect(checkGrants(policy, "a", target, nowMs).allowed).toBe(false);
  const empty = parse(AuthorizationPolicySchema, { grants: [{ actions: null }] }, "policy");
  expect(checkGrants(empty, "a", undefined, nowMs).allowed).toBe(false);
});
