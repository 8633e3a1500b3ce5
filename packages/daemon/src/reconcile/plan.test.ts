import { describe, expect, test } from "bun:test";
import { silentLog } from "@bureau/os/testing/silent-log";
import { AuthorizationIndex } from "@bureau/schema/authorization-index";
import type { SandboxExit, SandboxStatus } from "@bureau/schema/launcher-ipc";
import { parsePrincipalName, parseRoomId, parseUserId } from "@bureau/schema/refs";
import type { Desired, DesiredOutcome, DesiredPrincipal, WantedSandbox } from "../desired/desired.ts";
import type { Health } from "../health/health-monitor.ts";
import { type Action, type Busy, type Plan, plan } from "./plan.ts";
import { ReconcileState, STABLE_MS } from "./reconcile-state.ts";
import { goodSpecOf, keyOf, TRIAL_FAILURES_MAX } from "./rollback.ts";
import { SpecHistory } from "./spec-history.ts";

const agent = parsePrincipalName("agent/a");
const userOf = (account: string) => parseUserId(`@bureau/fleet/test/${account}:bureau.test`);
const NOW = 1_000_000;

const wanted = (changes: { spec?: string; payload?: string; grants?: string } = {}): WantedSandbox => ({
  spec: { command: ["run"], payload: {} },
  digests: { spec: changes.spec ?? "program.credentials", payload: changes.payload ?? "payload" },
  credentials: "Y2lwaGVy",
  grants: [],
  grantsDigest: changes.grants ?? "grants",
  trigger: undefined,
});

const principal = (
  outcome: DesiredOutcome,
  restartPolicy: DesiredPrincipal["restartPolicy"] = "always",
): DesiredPrincipal => ({
  account: agent,
  userId: userOf(agent),
  template: "bureau/template:t",
  restartPolicy,
  outcome,
});

const desiredOf = (...principals: DesiredPrincipal[]): Desired => ({
  principals: new Map(principals.map((one) => [one.account, one])),
  authorization: new AuthorizationIndex([]),
  faults: [],
  aliases: new Set(),
  policyRooms: new Set(),
  conditions: [],
});

const running = (changes: Partial<SandboxStatus> = {}): SandboxStatus => ({
  principal: agent,
  digests: wanted().digests,
  state: "running",
  pid: 10,
  proxy: { state: "running", pid: 11 },
  started_at: 5_000,
  ...changes,
});

const ended = (code: number, changes: Partial<SandboxExit> & { ranMs?: number } = {}): SandboxStatus => {
  const { ranMs = 100, ...rest } = changes;
  return running({
    state: "exited",
    proxy: { state: "dead" },
    exit: { code, description: `exited with ${code}`, at: 5_000 + ranMs, ...rest },
  });
};

const nothingKnown: Health = { state: undefined, hasPassed: false };
const emptyHistory = (): SpecHistory =>
  new SpecHistory({ read: () => [], write: () => {}, remove: () => {} }, silentLog);
const emptyState = (): ReconcileState => new ReconcileState({ read: () => undefined, write: () => {} });

function planOf(
  want: DesiredPrincipal | undefined | "unknown",
  have: SandboxStatus | undefined,
  options: {
    state?: ReconcileState;
    history?: SpecHistory;
    health?: Health;
    busy?: Busy;
    now?: number;
    givesServices?: boolean;
    mergesKeys?: boolean;
  } = {},
): Plan {
  return plan({
    desired: want === "unknown" ? undefined : desiredOf(...(want === undefined ? [] : [want])),
    actual: have === undefined ? [] : [have],
    state: options.state ?? emptyState(),
    history: options.history ?? emptyHistory(),
    health: { of: () => options.health ?? nothingKnown },
    givesServices: options.givesServices ?? true,
    mergesKeys: options.mergesKeys ?? false,
    busy: new Map(options.busy === undefined ? [] : [[agent, options.busy]]),
    now: options.now ?? NOW,
    jitter: 1,
    userOf,
  });
}
const onlyAction = (result: Plan): Action => {
  expect(result.actions).toHaveLength(1);
  const [action] = result.actions;
  if (action === undefined) throw new Error("no action");
  return action;
};
const state = (result: Plan): string | undefined => result.reports[0]?.state;
const run = (restartPolicy: DesiredPrincipal["restartPolicy"] = "always", sandbox = wanted()) =>
  principal({ kind: "run", sandbox }, restartPolicy);
/** The state after this daemon created this sandbox. */
function startedState(sandbox = wanted()): ReconcileState {
  const state = emptyState();
  state.update(agent, { known: true, grants: sandbox.grantsDigest });
  return state;
}

describe("starting", () => {
  test("creates a sandbox that should run and does not", () => {
    const result = planOf(run(), undefined);
    expect(onlyAction(result)).toMatchObject({ kind: "create", account: agent });
    expect(state(result)).toBe("starting");
  });

  const lacking = { services: [], missing: 'for the service "ticket"', fault: undefined };

  test("waits for a required service, and tells for which", () => {
    const result = planOf(run("always", { ...wanted(), services: lacking }), undefined);
    expect(result.actions).toEqual([]);
    expect(result.reports[0]).toMatchObject({ state: "waiting", reason: 'for the service "ticket"' });
  });

  test("waits for the upgrade of a launcher that gives no services, and starts all others", () => {
    const resolved = { services: [], missing: undefined, fault: undefined };
    const sandbox = { ...wanted(), services: resolved };
    const old = planOf(run("always", sandbox), undefined, { givesServices: false });
    expect(old.actions).toEqual([]);
    expect(old.reports[0]?.reason).toContain("the launcher's upgrade");
    expect(onlyAction(planOf(run("always", sandbox), undefined)).kind).toBe("create");
    expect(onlyAction(planOf(run(), undefined, { givesServices: false })).kind).toBe("create");
  });

  test("keeps a sandbox running whose service is missing, also when its configuration changes", () => {
    const sandbox = { ...wanted(), services: lacking };
    expect(state(planOf(run("always", sandbox), running(), { state: startedState() }))).toBe("running");
    const changed = { ...sandbox, digests: { ...sandbox.digests, spec: "other.credentials" } };
    const result = planOf(run("always", changed), running(), { state: startedState() });
    expect(result.actions).toEqual([]);
    expect(result.reports[0]).toMatchObject({
      state: "running",
      reason: 'its new configuration waits for the service "ticket"',
    });
  });

  test("does nothing to a sandbox that runs as configured", () => {
    const result = planOf(run(), running(), { state: startedState() });
    expect(result.actions).toEqual([]);
    expect(result.reports[0]).toMatchObject({ state: "running", pid: 10, proxy_pid: 11, started_at: 5_000 });
  });

  test("starts nothing while a start condition does not hold, and reports what it waits for", () => {
    const result = planOf(principal({ kind: "waiting", reason: "for x" }), undefined);
    expect(result.actions).toEqual([]);
    expect(result.reports[0]).toMatchObject({ state: "waiting", reason: "for x" });
  });

  test("auto_start off starts nothing", () => {
    const result = planOf(principal({ kind: "stopped" }), undefined);
    expect(result.actions).toEqual([]);
    expect(state(result)).toBe("stopped");
  });

  test("does not start a faulty principal, and reports why", () => {
    const result = planOf(principal({ kind: "failed", reason: "no credentials" }), undefined);
    expect(result.actions).toEqual([]);
    expect(result.reports[0]).toMatchObject({ state: "failed", reason: "no credentials" });
  });

  test("skips a principal with an action under way", () => {
    const result = planOf(run(), undefined, { busy: "starting" });
    expect(result.actions).toEqual([]);
    expect(state(result)).toBe("starting");
  });

  test("retries a failed start when the retry is due, or when its configuration changes", () => {
    const state = emptyState();
    state.update(agent, {
      starts: { key: keyOf(wanted()), failures: 2, retryAt: NOW + 500 },
      lastError: "boom",
    });
    const early = planOf(run(), undefined, { state });
    expect(early.actions).toEqual([]);
    expect(early.wakeAt).toBe(NOW + 500);
    expect(early.reports[0]).toMatchObject({ state: "backing-off", reason: "boom" });
    expect(onlyAction(planOf(run(), undefined, { state, now: NOW + 500 })).kind).toBe("create");
    const changed = run("always", wanted({ payload: "other" }));
    expect(onlyAction(planOf(changed, undefined, { state })).kind).toBe("create");
  });
});

describe("an unknown desired state", () => {
  test("starts and stops nothing", () => {
    expect(planOf("unknown", running()).actions).toEqual([]);
    expect(planOf("unknown", ended(1)).actions).toEqual([]);
  });

  test.each([
    { kind: "failed", reason: "its template is gone" },
    { kind: "unresolved", reason: "looking for a room" },
  ] as const)("a running sandbox keeps running while its configuration is $kind", (outcome) => {
    const result = planOf(principal(outcome), running());
    expect(result.actions).toEqual([]);
    expect(result.reports[0]).toMatchObject({ state: "running", reason: outcome.reason });
  });
});

describe("stopping", () => {
  test.each([
    ["is not assigned", undefined],
    ["has auto_start off", principal({ kind: "stopped" })],
    ["waits for its condition", principal({ kind: "waiting", reason: "x" })],
  ])("stops a sandbox whose principal %s", (_, want) => {
    const result = planOf(want, running());
    expect(onlyAction(result)).toMatchObject({ kind: "destroy", why: "undesired" });
    expect(state(result)).toBe("stopping");
  });

  test("clears the record of an exit when its principal should not run", () => {
    expect(onlyAction(planOf(undefined, ended(3)))).toMatchObject({ kind: "destroy", why: "cleared" });
  });

  test("waits after a failed stop before the next", () => {
    const state = startedState();
    state.update(agent, { trouble: { failures: 1, retryAt: NOW + 900 } });
    const result = planOf(undefined, running(), { state });
    expect(result.actions).toEqual([]);
    expect(result.wakeAt).toBe(NOW + 900);
  });
});

describe("changing", () => {
  test("stops a sandbox for another program or other credentials, to create it again", () => {
    for (const spec of ["other.credentials", "program.other"]) {
      const result = planOf(run("always", wanted({ spec })), running(), { state: startedState() });
      expect(onlyAction(result)).toMatchObject({ kind: "destroy", why: "changed" });
    }
  });

  test("gives other credentials to the proxy of a running sandbox, where the launcher can", () => {
    const options = { state: startedState(), mergesKeys: true };
    const rotated = planOf(run("always", wanted({ spec: "program.other" })), running(), options);
    expect(onlyAction(rotated).kind).toBe("rotate-credentials");
    expect(state(rotated)).toBe("running");
    const both = planOf(run("always", wanted({ spec: "other.other" })), running(), options);
    expect(onlyAction(both)).toMatchObject({ kind: "destroy", why: "changed" });
  });

  test("creates a sandbox again for other credentials that it has inside", () => {
    const sandbox = wanted({ spec: "program.other" });
    const secrets = [{ key: "A", env: "A" }];
    const inside = { ...sandbox, spec: { ...sandbox.spec, secrets } };
    const result = planOf(run("always", inside), running(), { state: startedState(), mergesKeys: true });
    expect(onlyAction(result)).toMatchObject({ kind: "destroy", why: "changed" });
  });

  test("waits for a launcher that takes single keys", () => {
    const sandbox = { ...wanted(), credentialKeys: { A: "YQ==" } };
    const old = planOf(run("always", sandbox), undefined);
    expect(old.actions).toEqual([]);
    expect(state(old)).toBe("waiting");
    expect(onlyAction(planOf(run("always", sandbox), undefined, { mergesKeys: true })).kind).toBe("create");
  });

  test("passes another payload to the running program", () => {
    const result = planOf(run("always", wanted({ payload: "new" })), running(), { state: startedState() });
    expect(onlyAction(result).kind).toBe("update-payload");
    expect(state(result)).toBe("running");
  });

  test("pushes grants when they change, and when the proxy's grants are unknown", () => {
    const changed = planOf(run("always", wanted({ grants: "new" })), running(), { state: startedState() });
    expect(onlyAction(changed)).toMatchObject({ kind: "push-grants", digest: "new" });
    expect(onlyAction(planOf(run(), running())).kind).toBe("push-grants");
  });
});

describe("exits", () => {
  const verdictOf = (
    policy: DesiredPrincipal["restartPolicy"],
    code: number,
    state = startedState(),
    ranMs = 100,
  ) => {
    const action = onlyAction(planOf(run(policy), ended(code, { ranMs }), { state }));
    if (action.kind !== "collect") throw new Error(action.kind);
    return action.verdict;
  };

  test("does not restart a success unless the program should always run", () => {
    expect(verdictOf("never", 0).kind).toBe("completed");
    expect(verdictOf("on-failure", 0).kind).toBe("completed");
    expect(verdictOf("always", 0)).toMatchObject({ kind: "retry", starts: { retryAt: NOW } });
  });

  test("restarts after a failure, but not under never", () => {
    expect(verdictOf("never", 1).kind).toBe("completed");
    expect(verdictOf("on-failure", 1)).toMatchObject({ kind: "retry", starts: { retryAt: NOW + 1_000 } });
    expect(verdictOf("always", 1)).toMatchObject({ kind: "retry", starts: { retryAt: NOW + 1_000 } });
  });

  test("a configuration that the launcher refuses stays failed until it changes", () => {
    const state = emptyState();
    const key = keyOf(wanted());
    const starts = { failures: 1, retryAt: NOW - 1, key };
    state.update(agent, { refused: { key, reason: "it overlaps a home" }, starts });
    const plan = planOf(principal({ kind: "run", sandbox: wanted() }), undefined, { state });
    expect(plan.actions).toEqual([]);
    expect(plan.wakeAt).toBeUndefined();
    expect(plan.reports[0]).toMatchObject({ state: "failed", reason: "it overlaps a home" });
    const other = wanted({ spec: "other.credentials" });
    const next = planOf(principal({ kind: "run", sandbox: other }), undefined, { state });
    expect(next.actions).toEqual([expect.objectContaining({ kind: "create" })]);
  });

  test("replaces a refused configuration at once by the last working one", () => {
    const state = emptyState();
    const history = emptyHistory();
    history.keep(agent, goodSpecOf(wanted(), true));
    const other = wanted({ spec: "other.credentials" });
    state.update(agent, { refused: { key: keyOf(other), reason: "no" }, lastError: "no" });
    const { actions } = planOf(principal({ kind: "run", sandbox: other }), undefined, { state, history });
    expect(actions).toEqual([expect.objectContaining({ kind: "reject" })]);
  });

  test("an exit within a minute of a program that should always run counts as a failure on trial, also with 0", () => {
    expect(verdictOf("always", 0)).toMatchObject({ kind: "retry", isFailure: true });
    expect(verdictOf("always", 0, startedState(), STABLE_MS + 1)).toMatchObject({
      kind: "retry",
      isFailure: false,
    });
    expect(verdictOf("always", 1, startedState(), STABLE_MS + 1)).toMatchObject({
      kind: "retry",
      isFailure: true,
    });
  });

  test("an exit with unknown status counts as a failure", () => {
    expect(verdictOf("on-failure", -1).kind).toBe("retry");
    expect(verdictOf("never", -1).kind).toBe("completed");
  });

  test("failures in a row wait 1, 2, 4, 8, 16 and then 30 s", () => {
    const waits = [0, 1, 2, 3, 4, 5, 6].map((failures) => {
      const state = startedState();
      state.update(agent, { starts: { key: keyOf(wanted()), failures, retryAt: 0 } });
      const verdict = verdictOf("always", 1, state);
      return verdict.kind === "retry" ? verdict.starts.retryAt - NOW : undefined;
    });
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  });

  test("successes in quick succession are delayed, too", () => {
    const state = startedState();
    state.update(agent, { starts: { key: keyOf(wanted()), failures: 3, retryAt: 0 } });
    expect(verdictOf("always", 0, state)).toMatchObject({ starts: { failures: 4, retryAt: NOW + 8_000 } });
  });

  test("after a minute of running the count starts at zero", () => {
    const state = startedState();
    state.update(agent, { starts: { key: keyOf(wanted()), failures: 5, retryAt: 0 } });
    const action = onlyAction(planOf(run(), ended(1, { ranMs: 60_001 }), { state }));
    expect(action).toMatchObject({ verdict: { starts: { failures: 1, retryAt: NOW + 1_000 } } });
  });

  test("only clears the record of an exit that was already handled", () => {
    const state = startedState();
    state.update(agent, { collectedExitAt: 5_100 });
    expect(onlyAction(planOf(run(), ended(1), { state }))).toMatchObject({
      kind: "destroy",
      why: "cleared",
    });
  });

  test("an exit of another program does not count for this one", () => {
    const result = planOf(run("never", wanted({ spec: "new.credentials" })), ended(0));
    expect(onlyAction(result)).toMatchObject({ kind: "destroy", why: "cleared" });
  });
});

describe("completed work", () => {
  const completed = (code = 0): ReconcileState => {
    const state = emptyState();
    state.complete(agent, { structure: "program", payload: "payload", code, at: 1 });
    return state;
  };

  test("is not run again, also not with rotated credentials", () => {
    for (const sandbox of [wanted(), wanted({ spec: "program.rotated" })]) {
      const result = planOf(run("never", sandbox), undefined, { state: completed() });
      expect(result.actions).toEqual([]);
      expect(state(result)).toBe("completed");
    }
  });

  test("is run again with another program, another payload or another policy", () => {
    for (const want of [
      run("never", wanted({ spec: "other.credentials" })),
      run("never", wanted({ payload: "other" })),
      run("always"),
    ])
      expect(onlyAction(planOf(want, undefined, { state: completed() })).kind).toBe("create");
    expect(onlyAction(planOf(run("on-failure"), undefined, { state: completed(1) })).kind).toBe("create");
  });

  test("stays completed when it ended after its condition stopped holding", () => {
    const want = principal({ kind: "waiting", reason: "x" }, "never");
    expect(onlyAction(planOf(want, ended(0)))).toMatchObject({
      kind: "collect",
      verdict: { kind: "completed" },
    });
  });

  test("may run again after it was disabled, or removed from the configuration", () => {
    expect(onlyAction(planOf(principal({ kind: "stopped" }), undefined, { state: completed() })).kind).toBe(
      "uncomplete",
    );
    expect(onlyAction(planOf(undefined, undefined, { state: completed() })).kind).toBe("forget");
    expect(planOf("unknown", undefined, { state: completed() }).actions).toEqual([]);
  });
});

describe("proxies", () => {
  const dead = running({ proxy: { state: "dead" } });

  test("restarts a dead proxy at once", () => {
    const result = planOf(run(), dead, { state: startedState() });
    expect(onlyAction(result)).toMatchObject({
      kind: "restart-proxy",
      proxy: { failures: 1, retryAt: NOW + 1_000 },
    });
    expect(state(result)).toBe("running");
  });

  test("delays the restart of a proxy that died again soon, but not of one that ran for a minute", () => {
    const state = startedState();
    state.update(agent, { proxy: { failures: 3, retryAt: NOW + 4_000, at: NOW } });
    expect(planOf(run(), dead, { state }).wakeAt).toBe(NOW + 4_000);
    expect(onlyAction(planOf(run(), dead, { state, now: NOW + 4_000 }))).toMatchObject({
      proxy: { failures: 4 },
    });
    expect(onlyAction(planOf(run(), dead, { state, now: NOW + 60_001 }))).toMatchObject({
      proxy: { failures: 1 },
    });
  });
});

describe("a machine with a request to leave", () => {
  const leaving: Desired = {
    ...desiredOf(),
    decommission: { room: parseRoomId("!config:bureau.test"), request: "$request", graceMs: 42_000 },
  };
  const planLeaving = (actual: SandboxStatus[], busy?: Busy, state = emptyState()): Plan =>
    plan({
      desired: leaving,
      actual,
      state,
      now: NOW,
      jitter: 1,
      userOf,
      history: emptyHistory(),
      health: { of: () => nothingKnown },
      givesServices: true,
      mergesKeys: false,
      busy: new Map(busy === undefined ? [] : [[agent, busy]]),
    });

  test("stops sandboxes with the grace of the request, and is not empty until they are gone", () => {
    const result = planLeaving([running()]);
    expect(onlyAction(result)).toEqual({
      kind: "destroy",
      account: agent,
      why: "undesired",
      graceMs: 42_000,
    });
    expect(result.reports[0]?.state).toBe("stopping");
    expect(result.drained).toBe(false);
    expect(planLeaving([running()], "stopping").drained).toBe(false);
    expect(planLeaving([], "starting").drained).toBe(false);
    expect(planLeaving([]).drained).toBe(true);
  });

  test("is empty when only records of exits are left", () => {
    expect(planLeaving([ended(0)]).drained).toBe(true);
  });

  test("remembers completed work, because the request may be withdrawn", () => {
    const state = emptyState();
    state.complete(agent, { structure: "program", payload: "payload", code: 0, at: 1 });
    expect(planLeaving([], undefined, state).actions).toEqual([]);
  });

  test("is drained only with such a request", () => {
    expect(planOf(undefined, undefined).drained).toBe(false);
    expect(planOf("unknown", undefined).drained).toBe(false);
  });
});

describe("health", () => {
  const good = wanted();
  const next = wanted({ spec: "next.credentials" });
  const nextRuns = running({ digests: next.digests });
  const unwell: Health = { state: "unhealthy", hasPassed: false, reason: "no answer" };
  const well: Health = { state: "healthy", hasPassed: true };
  /** A history in which `good` worked and, with a reason, `next` did not. */
  const historyOf = (reason?: string, announced = false): SpecHistory => {
    const history = emptyHistory();
    history.keep(agent, goodSpecOf(good, true));
    if (reason !== undefined) history.reject(agent, { key: keyOf(next), reason, announced });
    return history;
  };

  test("stores a configuration that passes its health check, once", () => {
    const state = startedState();
    const action = onlyAction(planOf(run(), running(), { state, health: well }));
    expect(action).toMatchObject({ kind: "keep", good: { structure: "program" } });
    expect(action).toHaveProperty("news", undefined);
    const kept = { state, health: well, history: historyOf() };
    expect(planOf(run(), running(), kept).actions).toEqual([]);
    expect(planOf(run(), running(), kept).reports[0]).toMatchObject({ health: "healthy" });
  });

  test("reports a configuration that works and replaced one that worked", () => {
    const options = { state: startedState(next), health: well, history: historyOf() };
    expect(onlyAction(planOf(run("always", next), nextRuns, options))).toMatchObject({
      kind: "keep",
      news: "bureau/template:t",
    });
  });

  test("stores the running configuration before it is replaced, unless it was failing or another is stored", () => {
    const state = startedState();
    state.update(agent, { ran: goodSpecOf(good, true) });
    const keepOf = (options: { history?: SpecHistory; health?: Health }): unknown => {
      const action = onlyAction(planOf(run("always", next), running(), { state, ...options }));
      return action.kind === "destroy" && action.why === "changed" ? action.keep?.structure : action;
    };
    expect(keepOf({})).toBe("program");
    expect(keepOf({ history: historyOf() })).toBeUndefined();
    expect(keepOf({ health: { state: "failing", hasPassed: true, reason: "no answer" } })).toBeUndefined();
    state.update(agent, { starts: { key: keyOf(good), failures: 1, retryAt: 0 } });
    expect(keepOf({})).toBeUndefined();
  });

  test("restarts an unhealthy program without a previous configuration after growing delays", () => {
    const state = startedState();
    state.update(agent, { starts: { key: keyOf(good), failures: 2, retryAt: 0 } });
    const action = onlyAction(planOf(run(), running(), { state, health: unwell }));
    expect(action).toMatchObject({
      kind: "destroy",
      why: "unhealthy",
      starts: { failures: 3, retryAt: NOW + 4_000 },
      reason: "its health check failed: no answer",
    });
    const worked = planOf(run(), running(), { state, health: { ...unwell, hasPassed: true } });
    expect(onlyAction(worked)).toMatchObject({ starts: { failures: 1, retryAt: NOW + 1_000 } });
    // The same when the unhealthy configuration is the one that worked before.
    const same = planOf(run(), running(), { state, health: unwell, history: historyOf() });
    expect(onlyAction(same)).toMatchObject({ kind: "destroy", why: "unhealthy" });
  });

  test("rejects an unhealthy configuration that replaced one that worked", () => {
    const options = { state: startedState(next), health: unwell, history: historyOf() };
    const action = onlyAction(planOf(run("always", next), nextRuns, options));
    expect(action).toMatchObject({
      kind: "reject",
      rejected: { key: keyOf(next), reason: "its health check failed: no answer", announced: false },
    });
  });

  test("creates the previous configuration after a rejection, with the current credentials", () => {
    const history = historyOf("it failed");
    const stop = planOf(run("always", next), nextRuns, { history, state: startedState(next) });
    expect(onlyAction(stop)).toMatchObject({ kind: "destroy", why: "changed" });
    const create = planOf(run("always", next), undefined, { history });
    expect(onlyAction(create)).toMatchObject({
      kind: "create",
      sandbox: { digests: { spec: "program.credentials" } },
      instead: { reason: "it failed" },
    });
    expect(create.reports[0]).toMatchObject({ rolled_back: true, reason: "rolled back: it failed" });
  });

  test("reports once that the previous configuration runs again, and then does nothing", () => {
    const state = startedState();
    const first = planOf(run("always", next), running(), { history: historyOf("it failed"), state });
    expect(onlyAction(first)).toMatchObject({ kind: "announce", rejected: { announced: true } });
    const later = planOf(run("always", next), running(), { history: historyOf("it failed", true), state });
    expect(later.actions).toEqual([]);
    expect(later.reports[0]).toMatchObject({ state: "running", rolled_back: true });
  });

  test("retries a rejected configuration after any change, also of credentials or health check", () => {
    for (const other of [
      wanted({ spec: "third.credentials" }),
      wanted({ spec: "next.rotated" }),
      wanted({ spec: "next.credentials", payload: "other" }),
      { ...next, healthCheck: { type: "socket" as const, interval_seconds: 1 } },
    ]) {
      const result = planOf(run("always", other), running(), { history: historyOf("it failed", true) });
      expect(onlyAction(result).kind).toBe("readmit");
    }
  });

  test("rejects a configuration after three failed starts, but only if another had worked", () => {
    const state = emptyState();
    const failures = TRIAL_FAILURES_MAX;
    state.update(agent, { trial: { key: keyOf(next), failures: failures - 1 }, lastError: "no such file" });
    const options = { state, history: historyOf() };
    expect(onlyAction(planOf(run("always", next), undefined, options)).kind).toBe("create");
    state.update(agent, { trial: { key: keyOf(next), failures } });
    expect(onlyAction(planOf(run("always", next), undefined, options))).toMatchObject({
      kind: "reject",
      rejected: { reason: "no such file" },
    });
    expect(onlyAction(planOf(run("always", next), undefined, { state })).kind).toBe("create");
  });

  test("never rolls back work that may end", () => {
    for (const policy of ["never", "on-failure"] as const) {
      const options = { state: startedState(next), health: unwell, history: historyOf() };
      const action = onlyAction(planOf(run(policy, next), nextRuns, options));
      expect(action).toMatchObject({ kind: "destroy", why: "unhealthy" });
    }
  });

  test("gives up a rollback to an unproven configuration that fails, and restarts a proven one", () => {
    const history = historyOf("it failed", true);
    const options = { state: startedState(), history, health: unwell };
    expect(onlyAction(planOf(run("always", next), running(), options))).toMatchObject({ why: "unhealthy" });
    history.keep(agent, goodSpecOf(good, false));
    expect(onlyAction(planOf(run("always", next), running(), options)).kind).toBe("give-up");
    const passed = planOf(run("always", next), running(), { ...options, health: well });
    expect(onlyAction(passed)).toMatchObject({ kind: "keep", good: { proved: true } });
  });

  test("restarts a dead proxy before it considers its principal's health", () => {
    const dead = running({ proxy: { state: "dead" } });
    const result = planOf(run(), dead, { state: startedState(), health: unwell });
    expect(onlyAction(result).kind).toBe("restart-proxy");
  });

  test("rolls back a wrong health check without a restart", () => {
    const checked = { ...good, healthCheck: { endpoint: "/nowhere", interval_seconds: 1 } };
    const options = { state: startedState(), history: historyOf(), health: unwell };
    const action = onlyAction(planOf(run("always", checked), running(), options));
    if (action.kind !== "reject") throw new Error(action.kind);
    const history = historyOf();
    history.reject(agent, { ...action.rejected, announced: true });
    const after = planOf(run("always", checked), running(), { state: startedState(), history });
    expect(after.actions).toEqual([]);
    expect([...after.checks]).toEqual([[agent, undefined]]);
  });
});
