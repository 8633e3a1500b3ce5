import { describe, expect, test } from "bun:test";
import type { AuthorizationPolicy } from "./authorization.ts";
import { roleGrants } from "./service-token.ts";

const now = Date.parse("2026-01-01T00:00:00Z");
const of = (policy: AuthorizationPolicy, role = "ticket") => roleGrants(policy, role, "s", now).grants;

describe("a token carries the grants of its role", () => {
  test.each(["ticket/create", "ticket/**", "ticket", "**", "*/create", "*/*"])("%s", (action) => {
    expect(of({ grants: [{ actions: [action] }] })).toEqual(
      action === "*/create" ? [] : [{ actions: [action], targets: [] }],
    );
  });
  test("and none of another role", () => {
    expect(of({ grants: [{ actions: ["ticketing/x", "fleet/**", "matrix/join", "x/ticket"] }] })).toEqual([]);
    expect(of({ grants: [{ actions: ["fleet/**", "ticket/show"] }] })).toEqual([
      { actions: ["ticket/show"], targets: [] },
    ]);
  });
  test("and none that has ended, or whose end cannot be read", () => {
    const until = (expires_at: string) => of({ grants: [{ actions: ["ticket/**"], expires_at }] });
    expect(until("2026-01-01T00:00:00Z")).toEqual([]);
    expect(until("soon")).toEqual([]);
    expect(until("2026-01-01T00:00:01Z")).toHaveLength(1);
  });
  test("and the end of the first of them", () => {
    const policy = {
      grants: [
        { actions: ["ticket/a"], expires_at: "2026-01-01T00:02:00Z" },
        { actions: ["ticket/b"], expires_at: "2026-01-01T00:01:00Z" },
      ],
    };
    expect(roleGrants(policy, "ticket", "s", now).endsAtMs).toBe(now + 60_000);
  });
});

describe("a denial takes out every pattern that has an action in common with it", () => {
  test.each([
    ["ticket/close", "ticket/close", false],
    ["ticket/**", "ticket/close", false],
    ["ticket/close", "ticket/**", false],
    ["ticket/*", "**", false],
    ["ticket/**", "*/close", false],
    ["ticket/**", "ticket", false],
    ["ticket/show", "ticket/close", true],
    ["ticket/show/*", "ticket/close/*", true],
  ])("%s under a denial of %s", (granted, denied, stays) => {
    const policy = {
      grants: [{ actions: [granted] }],
      denials: [{ actions: [denied], targets: ["agent/x:s"] }],
    };
    expect(of(policy)).toHaveLength(stays ? 1 : 0);
  });
});

test("targets become localparts; one on another server is left out", () => {
  const targets = ["agent/*:s", "agent/b:elsewhere", "agent/c", "**:*"];
  expect(of({ grants: [{ actions: ["ticket/**"], targets }] })).toEqual([
    { actions: ["ticket/**"], targets: ["agent/*", "agent/c", "**"] },
  ]);
});
