import { expect, test } from "bun:test";
import { silentLog } from "@bureau/os/testing/silent-log";
import { AuthorizationIndex } from "@bureau/schema/authorization-index";
import { parsePrincipalName, parseUserId } from "@bureau/schema/refs";
import type { Desired, WantedSandbox } from "../desired/desired.ts";
import { type PlanInput, plan } from "./plan.ts";
import { planView, stateView } from "./plan-view.ts";
import { ReconcileState } from "./reconcile-state.ts";
import { goodSpecOf } from "./rollback.ts";
import { SpecHistory } from "./spec-history.ts";

const SECRET = "a-secret";
const agent = parsePrincipalName("agent/a");
const userId = parseUserId("@b/fleet/p/agent/a:s");

const sandbox: WantedSandbox = {
  spec: {
    command: ["/bin/sh", "-c", SECRET],
    environment_variables: { KEY: SECRET },
    payload: { key: SECRET },
  },
  digests: { spec: "structure.credentials", payload: "payload" },
  credentials: SECRET,
  grants: [],
  grantsDigest: "grants",
  trigger: JSON.stringify({ key: SECRET }),
};

const desired: Desired = {
  principals: new Map([
    [
      agent,
      { account: agent, userId, template: "t", restartPolicy: "always", outcome: { kind: "run", sandbox } },
    ],
  ]),
  authorization: new AuthorizationIndex([]),
  faults: [],
  aliases: new Set(),
  policyRooms: new Set(),
  conditions: [],
};

function inputOf(actual: PlanInput["actual"]): PlanInput & { state: ReconcileState; history: SpecHistory } {
  const state = new ReconcileState({ read: () => undefined, write: () => {} });
  const history = new SpecHistory({ read: () => [], write: () => {}, remove: () => {} }, silentLog);
  state.update(agent, { known: true, ran: goodSpecOf(sandbox, false) });
  history.keep(agent, goodSpecOf(sandbox, true));
  return {
    desired,
    actual,
    state,
    history,
    health: { of: () => ({ state: undefined, hasPassed: false }) },
    givesServices: true,
    mergesKeys: false,
    busy: new Map(),
    now: 0,
    jitter: 0,
    userOf: () => userId,
  };
}

const viewed = (input: PlanInput) => JSON.parse(JSON.stringify(planView({ input, result: plan(input) })));

test("shows the inputs and actions of a plan", () => {
  const { input, result } = viewed(inputOf([]));
  expect(input.desired.principals[agent]).toMatchObject({
    userId,
    template: "t",
    outcome: { kind: "run", digests: sandbox.digests },
  });
  expect(result.actions).toMatchObject([
    { kind: "create", principal: agent, sandbox: { grantsDigest: "grants" } },
  ]);
  expect(result.reports).toMatchObject([{ name: agent, state: "starting" }]);
});

test("never shows credentials, payloads, environments, commands, triggers or output", () => {
  const input = inputOf([
    {
      principal: agent,
      digests: sandbox.digests,
      state: "exited",
      exit: { code: 1, description: "exited with 1", at: 1, output: SECRET },
      proxy: { state: "dead" },
      started_at: 0,
    },
  ]);
  for (const one of [inputOf([]), input]) expect(JSON.stringify(viewed(one))).not.toContain(SECRET);
  expect(JSON.stringify(stateView(input.state, input.history))).not.toContain(SECRET);
  expect(viewed(input).input.actual[0].exit).toEqual({ code: 1, description: "exited with 1", at: 1 });
});
