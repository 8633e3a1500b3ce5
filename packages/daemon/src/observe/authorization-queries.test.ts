import { describe, expect, test } from "bun:test";
import { AuthorizationIndex } from "@bureau/schema/authorization-index";
import { parseUserId, type UserId } from "@bureau/schema/refs";
import { authorizeBy } from "../authorization/authorize.ts";
import { TurnedClock } from "../testing/turned-clock.ts";
import { queryAllowances, queryAuthorization, queryGrants } from "./authorization-queries.ts";

const agent = parseUserId("@b/fleet/p/agent/a:s");
const ann = parseUserId("@ann:s");
const eve = parseUserId("@eve:s");
const moderator = parseUserId("@moderator:s");
const policy = {
  grants: [{ actions: ["matrix/join"] }],
  allowances: [
    { actions: ["observe"], actors: ["ann:s", "secret-colleague:s"] },
    { actions: ["interrupt"], actors: ["secret-colleague:s"] },
  ],
};
const index = new AuthorizationIndex([
  { name: "principal", users: new Set([agent]), policiesOf: (user) => (user === agent ? [policy] : []) },
]);
const deps = {
  authorize: authorizeBy(() => index, new TurnedClock()),
  index: () => index,
  levelOf: (user: UserId) => (user === moderator ? 50 : 0),
};
const forbidden = expect.objectContaining({ code: "forbidden" });

describe("questions about authorization", () => {
  test("about another user are denied below the level of a moderator", () => {
    const observes = { action: "query_authorization", auth_action: "observe", target: agent } as const;
    expect(() => queryAuthorization(deps, eve, { ...observes, actor: ann })).toThrow(forbidden);
    expect(() => queryGrants(deps, eve, { action: "query_grants", principal: agent })).toThrow(forbidden);
    expect(() => queryAllowances(deps, eve, { action: "query_allowances", principal: agent })).toThrow(
      forbidden,
    );
    expect(queryAuthorization(deps, moderator, { ...observes, actor: ann }).decision).toBe("allow");
    expect(queryGrants(deps, moderator, { action: "query_grants", principal: agent }).grants).toHaveLength(1);
  });

  test("about oneself are answered, without what the target lets others do", () => {
    const asked = { action: "query_authorization", auth_action: "observe", target: agent } as const;
    const reply = queryAuthorization(deps, ann, { ...asked, actor: ann });
    expect(reply.decision).toBe("allow");
    expect(reply.target_allowances?.map(({ actors }) => actors)).toEqual([["ann:s"]]);
    expect(JSON.stringify(reply)).not.toContain("secret-colleague");
    const refused = queryAuthorization(deps, eve, { ...asked, actor: eve });
    expect(refused).toMatchObject({ decision: "deny", target_allowances: [] });
    const whole = queryAuthorization(deps, moderator, { ...asked, actor: ann });
    expect(whole.target_allowances).toHaveLength(2);
  });

  test("fail while no configuration is known", () => {
    const unknown = { ...deps, index: () => undefined };
    const asked = { action: "query_grants", principal: ann } as const;
    expect(() => queryGrants(unknown, ann, asked)).toThrow(expect.objectContaining({ code: "unavailable" }));
  });
});
