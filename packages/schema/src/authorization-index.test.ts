import { describe, expect, test } from "bun:test";
import type { AuthorizationPolicy } from "./authorization.ts";
import {
  AuthorizationIndex,
  type PolicySource,
  type SourceName,
  shorthandPolicy,
} from "./authorization-index.ts";
import { parseUserId, type UserId } from "./refs.ts";

const nowMs = Date.parse("2026-06-01T12:00:00Z");
const actor = parseUserId("@b/fleet/p/agent/actor:s");
const target = parseUserId("@b/fleet/p/agent/target:s");
const stranger = parseUserId("@someone:s");
const anyone = ["**:*"];

const source = (name: SourceName, policies: Record<UserId, AuthorizationPolicy>): PolicySource => ({
  name,
  users: new Set(Object.keys(policies).map(parseUserId)),
  policiesOf: (user) => [policies[user] ?? {}],
});
const index = (mine: AuthorizationPolicy, theirs: AuthorizationPolicy): AuthorizationIndex =>
  new AuthorizationIndex([source("principal", { [actor]: mine, [target]: theirs })]);
const ask = (mine: AuthorizationPolicy, theirs: AuthorizationPolicy, action = "interrupt") =>
  index(mine, theirs).authorize(actor, action, target, nowMs) as unknown;
const denied = (reason: string) => ({ allowed: false, reason });

const granting: AuthorizationPolicy = { grants: [{ actions: ["interrupt/**"], targets: anyone }] };
const allowing: AuthorizationPolicy = { allowances: [{ actions: ["interrupt/**"], actors: anyone }] };

describe("an act on another principal", () => {
  test("is allowed by a grant and an allowance", () => {
    expect(ask(granting, allowing)).toMatchObject({ allowed: true, grant: { source: "principal" } });
    expect(ask(granting, allowing, "interrupt/terminate")).toMatchObject({ allowed: true });
  });

  test("is denied without a rule", () => {
    expect(new AuthorizationIndex([]).authorize(actor, "interrupt", target, nowMs)).toMatchObject(
      denied("no matching grant") as never,
    );
  });

  test("is denied without a grant, with an allowance alone", () => {
    expect(ask({}, allowing)).toMatchObject(denied("no matching grant"));
  });

  test("is denied without an allowance, with a grant alone", () => {
    expect(ask(granting, {})).toMatchObject(denied("no matching allowance on target"));
  });

  test("is denied when the grant is for another action or target", () => {
    expect(ask(granting, allowing, "fleet/place")).toMatchObject(denied("no matching grant"));
    expect(ask({ grants: [{ actions: ["**"], targets: ["other/**:*"] }] }, allowing)).toMatchObject(
      denied("no matching grant"),
    );
    expect(ask({ grants: [{ actions: ["**"] }] }, allowing)).toMatchObject(denied("no matching grant"));
  });

  test("is denied when the grant has expired", () => {
    const expired = { actions: ["**"], targets: anyone, expires_at: "2026-06-01T12:00:00Z" };
    expect(ask({ grants: [expired] }, allowing)).toMatchObject(denied("matching grant expired"));
  });

  test("is denied by a denial of the actor", () => {
    const denials = [{ actions: ["interrupt"], targets: anyone }];
    expect(ask({ ...granting, denials }, allowing)).toMatchObject(denied("explicit denial"));
  });

  test("is denied by an allowance denial of the target", () => {
    const allowance_denials = [{ actions: ["interrupt"], actors: anyone }];
    expect(ask(granting, { ...allowing, allowance_denials })).toMatchObject(
      denied("explicit allowance denial on target"),
    );
  });

  test("is denied by a pattern without a server, and by a malformed one", () => {
    for (const pattern of ["**", "b/fleet/p/agent/target", "a/**/b/**:s", "[:s"])
      expect(ask({ grants: [{ actions: ["**"], targets: [pattern] }] }, allowing)).toMatchObject(
        denied("no matching grant"),
      );
  });
});

describe("an act without a target", () => {
  const alone = (policy: AuthorizationPolicy, action = "ticket/create") =>
    index(policy, {}).authorize(actor, action, undefined, nowMs) as unknown;

  test("needs a grant only", () => {
    expect(alone({ grants: [{ actions: ["ticket/**"] }] })).toMatchObject({ allowed: true });
  });

  test("is denied without a grant, and by a denial", () => {
    expect(alone({})).toMatchObject(denied("no matching grant"));
    expect(alone({ allowances: [{ actions: ["**"], actors: anyone }] })).toMatchObject(
      denied("no matching grant"),
    );
    expect(
      alone({ grants: [{ actions: ["ticket/**"] }], denials: [{ actions: ["ticket/create"] }] }),
    ).toMatchObject(denied("explicit denial"));
  });
});

describe("observation", () => {
  const observe = (policy: AuthorizationPolicy, action = "observe") =>
    index({}, policy).authorize(stranger, action, target, nowMs) as unknown;

  test("needs an allowance of the target only", () => {
    expect(observe({ allowances: [{ actions: ["observe"], actors: ["someone:s"] }] })).toMatchObject({
      allowed: true,
    });
  });

  test("is denied without an allowance, also to an actor with every grant", () => {
    const every = { grants: [{ actions: ["**"], targets: anyone }] };
    expect(observe({})).toMatchObject(denied("no matching allowance on target"));
    expect(index(every, {}).authorize(actor, "observe", target, nowMs)).toMatchObject(
      denied("no matching allowance on target") as never,
    );
  });

  test("of output does not include input", () => {
    const policy = { allowances: [{ actions: ["observe"], actors: anyone }] };
    expect(observe(policy, "observe/read-write")).toMatchObject(denied("no matching allowance on target"));
  });

  test("is denied by an allowance denial", () => {
    const policy = {
      allowances: [{ actions: ["observe/**"], actors: anyone }],
      allowance_denials: [{ actions: ["observe/input"], actors: ["someone:s"] }],
    };
    expect(observe(policy, "observe/input")).toMatchObject(denied("explicit allowance denial on target"));
    expect(observe(policy)).toMatchObject({ allowed: true });
  });

  test("of no target is denied", () => {
    const every = { grants: [{ actions: ["**"] }], allowances: [{ actions: ["**"], actors: anyone }] };
    expect(index(every, every).authorize(actor, "observe", undefined, nowMs)).toMatchObject(
      denied("no matching allowance on target") as never,
    );
  });
});

describe("sources", () => {
  test("add up, and each rule names where it comes from", () => {
    const both = new AuthorizationIndex([
      source("machine-default", { [actor]: granting }),
      source("principal", { [actor]: { grants: [{ actions: ["a"], source: "temporal" }] } }),
    ]);
    expect(both.policyOf(actor).grants?.map((grant) => grant.source)).toEqual([
      "machine-default",
      "principal",
    ]);
    expect(both.policyOf(stranger)).toEqual({
      grants: [],
      denials: [],
      allowances: [],
      allowance_denials: [],
    });
  });

  test("cannot take away a denial of another source", () => {
    const both = new AuthorizationIndex([
      source("machine-default", { [actor]: { denials: [{ actions: ["**"] }] } }),
      source("principal", { [actor]: { grants: [{ actions: ["**"] }] } }),
    ]);
    expect(both.authorize(actor, "ticket/create", undefined, nowMs)).toMatchObject(
      denied("explicit denial") as never,
    );
  });
});

test("shorthands stand for grants, and for nothing when they are off", () => {
  expect(shorthandPolicy({})).toEqual({ grants: [] });
  expect(shorthandPolicy({ matrix_policy: { allow_join: false } })).toEqual({ grants: [] });
  expect(
    shorthandPolicy({
      matrix_policy: { allow_join: true, allow_invite: true, allow_room_create: true },
      service_visibility: ["service/**"],
    }),
  ).toEqual({
    grants: [
      { actions: ["matrix/join", "matrix/invite", "matrix/create-room"] },
      { actions: ["service/discover"], targets: ["service/**"] },
    ],
  });
});
