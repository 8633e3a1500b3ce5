/**
 * The next actions: a pure function of the desired state, the actual state and the reconcile state. It contains every
 * rule about starting, stopping and retrying, and has no side effects.
 *
 * At most one action a principal: after it the machine is listed again. An undecided outcome (a faulty configuration, a
 * room not found yet) neither stops nor starts anything.
 */
import { delayMs, standardBackoff } from "@bureau/kit/backoff";
import type { Grant } from "@bureau/schema/authorization";
import type { RestartPolicy } from "@bureau/schema/events";
import type { SandboxExit, SandboxStatus } from "@bureau/schema/launcher-ipc";
import type { PrincipalReport, principalStates } from "@bureau/schema/observe-wire";
import type { PrincipalName, UserId } from "@bureau/schema/refs";
import type { HealthCheck } from "@bureau/schema/template";
import type { Desired, DesiredPrincipal, WantedSandbox } from "../desired/desired.ts";
import { structureOf } from "../desired/digests.ts";
import type { Health, HealthMonitor } from "../health/health-monitor.ts";
import {
  type Attempts,
  type Completion,
  noAttempts,
  type PrincipalState,
  type ReconcileState,
  STABLE_MS,
} from "./reconcile-state.ts";
import { type Choice, chooseSandbox, goodSpecOf, isSameSpec, keyOf, TRIAL_FAILURES_MAX } from "./rollback.ts";
import type { GoodSpec, Rejection, SpecHistory } from "./spec-history.ts";

/** How an exit is handled: the principal stays stopped, or is started again later. */
export type Verdict =
  | { readonly kind: "completed"; readonly completion: Completion }
  | {
      readonly kind: "retry";
      readonly starts: PrincipalState["starts"];
      /** It counts towards {@link TRIAL_FAILURES_MAX}. */
      readonly isFailure: boolean;
    };

/** A run that is stopped for another configuration. If it had ended before the stop, that exit counts. */
type Replaced = { readonly have: SandboxStatus; readonly policy: RestartPolicy };

export type Action =
  | {
      readonly kind: "create";
      readonly account: PrincipalName;
      readonly want: DesiredPrincipal;
      readonly sandbox: WantedSandbox;
      /** Why this is not the assigned configuration: that one failed. */
      readonly instead: Rejection | undefined;
    }
  /** `undesired`: it should not run. `cleared`: only the record of an exit is left. */
  | {
      readonly kind: "destroy";
      readonly account: PrincipalName;
      readonly why: "undesired" | "cleared";
      /** Replaces the machine's own grace. */
      readonly graceMs?: number;
    }
  /** It should run with another configuration than it does. */
  | {
      readonly kind: "destroy";
      readonly account: PrincipalName;
      readonly why: "changed";
      readonly replaced: Replaced;
      /** The running configuration, which has worked so far: kept for a rollback. */
      readonly keep: GoodSpec | undefined;
    }
  /** It runs and is unhealthy. */
  | {
      readonly kind: "destroy";
      readonly account: PrincipalName;
      readonly why: "unhealthy";
      readonly reason: string;
      readonly replaced: Replaced;
      readonly starts: PrincipalState["starts"];
    }
  /** Counts an exit and clears its record. */
  | {
      readonly kind: "collect";
      readonly account: PrincipalName;
      readonly exit: SandboxExit;
      readonly verdict: Verdict;
    }
  | { readonly kind: "update-payload"; readonly account: PrincipalName; readonly sandbox: WantedSandbox }
  | {
      readonly kind: "restart-proxy";
      readonly account: PrincipalName;
      readonly sandbox: WantedSandbox;
      readonly proxy: PrincipalState["proxy"];
    }
  /** Only its credentials changed: its proxy takes them, and the sandbox keeps running. */
  | { readonly kind: "rotate-credentials"; readonly account: PrincipalName; readonly sandbox: WantedSandbox }
  | {
      readonly kind: "push-grants";
      readonly account: PrincipalName;
      readonly grants: Grant[];
      readonly digest: string;
    }
  /** Deletes its reconcile state. */
  | { readonly kind: "forget"; readonly account: PrincipalName }
  /** Its completed work may run again: its configuration was switched off. */
  | { readonly kind: "uncomplete"; readonly account: PrincipalName }
  /** It works: a later configuration that fails is rolled back to this one. */
  | {
      readonly kind: "keep";
      readonly account: PrincipalName;
      readonly good: GoodSpec;
      /** The template, when it replaced another configuration that worked. */
      readonly news: string | undefined;
    }
  /**
   * It failed, and a previous one had worked: that one runs again, and this is not retried until the assignment
   * changes.
   */
  | { readonly kind: "reject"; readonly account: PrincipalName; readonly rejected: Rejection }
  /** The assignment no longer has the rejected configuration. */
  | {
      readonly kind: "readmit";
      readonly account: PrincipalName;
      /** The template, when the assigned configuration already runs and has worked. */
      readonly news: string | undefined;
    }
  /** The rollback's configuration does not work either: the assigned one is retried, as after a crash. */
  | { readonly kind: "give-up"; readonly account: PrincipalName; readonly reason: string }
  /** The previous configuration runs again. */
  | { readonly kind: "announce"; readonly account: PrincipalName; readonly rejected: Rejection };

/** The reported state of a principal while its action is under way. */
export type Busy = "starting" | "stopping" | "running";

export type PlanInput = {
  /** Undefined while the desired state is unknown: then nothing is done. */
  readonly desired: Desired | undefined;
  readonly actual: readonly SandboxStatus[];
  readonly state: Pick<ReconcileState, "of" | "completion" | "accounts">;
  readonly history: Pick<SpecHistory, "of" | "accounts">;
  readonly health: Pick<HealthMonitor, "of">;
  /** Principals with an action under way, or one that ended after `actual` was requested. */
  readonly busy: ReadonlyMap<PrincipalName, Busy>;
  /** The launcher gives sandboxes the sockets of services; older ones do not. */
  readonly givesServices: boolean;
  /** The launcher takes single keys, and gives new credentials to a running proxy; older ones do not. */
  readonly mergesKeys: boolean;
  /** Milliseconds of the monotonic clock: due times in the reconcile state are on it. */
  readonly now: number;
  /** In [0, 1): spreads retries. */
  readonly jitter: number;
  readonly userOf: (account: PrincipalName) => UserId;
};

export type Plan = {
  /** Actions that free something come first. */
  readonly actions: readonly Action[];
  /** The latest time to plan again, on the monotonic clock. */
  readonly wakeAt: number | undefined;
  readonly reports: readonly PrincipalReport[];
  /** The health checks of principals that run as configured; undefined for a template without one. */
  readonly checks: ReadonlyMap<PrincipalName, HealthCheck | undefined>;
  /** A request to leave is valid, and no sandbox runs. */
  readonly drained: boolean;
};

type State = (typeof principalStates)[number];

/** The plan for one principal. */
type Decision = {
  readonly action?: Action;
  readonly wakeAt?: number;
  readonly state: State;
  readonly reason?: string;
  /** Set when it runs as configured. */
  readonly watch?: { readonly check: HealthCheck | undefined };
};

const order: Record<Action["kind"], number> = {
  forget: 0,
  uncomplete: 0,
  keep: 0,
  reject: 0,
  readmit: 0,
  "give-up": 0,
  announce: 0,
  collect: 1,
  destroy: 2,
  "restart-proxy": 3,
  "rotate-credentials": 4,
  "push-grants": 4,
  "update-payload": 5,
  create: 6,
};

export function plan(input: PlanInput): Plan {
  const actual = new Map(input.actual.map((sandbox) => [sandbox.principal, sandbox]));
  const wanted = input.desired?.principals ?? new Map<PrincipalName, DesiredPrincipal>();
  const actions: Action[] = [];
  const reports: PrincipalReport[] = [];
  const checks = new Map<PrincipalName, HealthCheck | undefined>();
  let wakeAt: number | undefined;
  for (const account of new Set([...wanted.keys(), ...actual.keys()])) {
    const want = wanted.get(account);
    const have = actual.get(account);
    const decision = decide({ account, want, have, past: input.state.of(account) }, input);
    if (decision.action !== undefined) actions.push(decision.action);
    if (decision.watch !== undefined) checks.set(account, decision.watch.check);
    if (decision.wakeAt !== undefined) wakeAt = Math.min(wakeAt ?? decision.wakeAt, decision.wakeAt);
    reports.push(report(account, want, have, decision, input));
  }
  // A request to leave may be withdrawn: completed work must then stay completed.
  if (input.desired !== undefined && input.desired.decommission === undefined)
    for (const account of new Set([...input.state.accounts(), ...input.history.accounts()]))
      if (!wanted.has(account) && !actual.has(account) && !input.busy.has(account))
        actions.push({ kind: "forget", account });
  actions.sort((a, b) => order[a.kind] - order[b.kind]);
  const drained =
    input.desired?.decommission !== undefined &&
    input.busy.size === 0 &&
    input.actual.every(({ state }) => state === "exited");
  return { actions, wakeAt, reports, checks, drained };
}

type Case = {
  readonly account: PrincipalName;
  readonly want: DesiredPrincipal | undefined;
  readonly have: SandboxStatus | undefined;
  readonly past: PrincipalState;
};

function decide(one: Case, input: PlanInput): Decision {
  const busy = input.busy.get(one.account);
  if (busy !== undefined) return { state: busy };
  if (input.desired === undefined)
    return {
      state: one.have?.state === "running" ? "running" : "waiting",
      reason: "the desired state is not known yet",
    };
  const outcome = one.want?.outcome;
  switch (outcome?.kind) {
    case undefined:
      return unwanted(one, input, { state: "stopping" });
    case "stopped":
      if (one.have === undefined && input.state.completion(one.account) !== undefined)
        return { state: "stopped", action: { kind: "uncomplete", account: one.account } };
      return unwanted(one, input, { state: "stopped" });
    case "waiting":
      return unwanted(one, input, { state: "waiting", reason: outcome.reason });
    case "failed":
      return { state: one.have?.state === "running" ? "running" : "failed", reason: outcome.reason };
    case "unresolved":
      return { state: one.have?.state === "running" ? "running" : "waiting", reason: outcome.reason };
    case "run":
      return wanted(one, outcome.sandbox, input);
  }
}

/** It should not run. `rest` is its state once its sandbox and record are gone. */
function unwanted(one: Case, input: PlanInput, rest: Decision): Decision {
  const { account, want, have } = one;
  if (have === undefined) return rest;
  if (have.state === "running") {
    const graceMs = input.desired?.decommission?.graceMs;
    const action: Action = {
      kind: "destroy",
      account,
      why: "undesired",
      ...(graceMs === undefined ? {} : { graceMs }),
    };
    return { ...held(one, input, action), state: "stopping" };
  }
  const exit = exitOf(have);
  // Work that ended stays completed while it waits: it must not run again when its condition holds again.
  const completed =
    want?.outcome.kind === "waiting" &&
    one.past.collectedExitAt !== exit.at &&
    leaves(want.restartPolicy, exit.code);
  const action: Action = completed
    ? { kind: "collect", account, exit, verdict: { kind: "completed", completion: completionOf(have, exit) } }
    : { kind: "destroy", account, why: "cleared" };
  return { ...rest, ...held(one, input, action) };
}

/** It should run with the configuration `asked`, or with the previous one when `asked` is known to fail. */
function wanted(one: Case, asked: WantedSandbox, input: PlanInput): Decision {
  const record = input.history.of(one.account);
  if (record.rejected !== undefined && record.rejected.key !== keyOf(asked)) {
    const runs = one.have?.state === "running";
    const works = record.good?.proved === true && isSameSpec(record.good, asked);
    const isBack = runs && works && one.have?.digests.spec === asked.digests.spec;
    const news = isBack ? one.want?.template : undefined;
    return { state: runs ? "running" : "starting", action: { kind: "readmit", account: one.account, news } };
  }
  const choice = chooseSandbox(asked, policyOf(one), record);
  const decision = decideWanted(one, choice, input);
  if (choice.instead === undefined || decision.state === "stopping") return decision;
  return { ...decision, reason: decision.reason ?? `rolled back: ${choice.instead.reason}` };
}

function decideWanted(one: Case, choice: Choice, input: PlanInput): Decision {
  if (one.have === undefined) return absent(one, choice, input);
  return one.have.state === "running"
    ? running(one, one.have, choice, input)
    : exited(one, one.have, choice.sandbox, input);
}

function absent({ account, want, past }: Case, choice: Choice, input: PlanInput): Decision {
  const { sandbox, instead } = choice;
  const completion = input.state.completion(account);
  if (
    completion !== undefined &&
    want !== undefined &&
    isSameWork(completion, sandbox) &&
    leaves(want.restartPolicy, completion.code)
  )
    return { state: "completed", reason: `it ended with ${completion.code}` };
  const { starts, trial, refused } = past;
  const key = keyOf(sandbox);
  const isRefused = refused?.key === key;
  if (isRefused || (trial.key === key && trial.failures >= TRIAL_FAILURES_MAX)) {
    const action = failed(account, choice, past.lastError ?? "it did not start");
    if (action !== undefined) return { state: "starting", action };
  }
  if (isRefused) return { state: "failed", reason: refused.reason };
  if (starts.key === key && input.now < starts.retryAt)
    return {
      state: "backing-off",
      wakeAt: starts.retryAt,
      ...(past.lastError === undefined ? {} : { reason: past.lastError }),
    };
  if (want === undefined) return { state: "stopped" };
  const missing = missingPart(sandbox, input);
  if (missing !== undefined) return { state: "waiting", reason: missing };
  return { state: "starting", action: { kind: "create", account, want, sandbox, instead } };
}

/** Why a sandbox cannot start yet: a service that it requires, or an older launcher. A running one continues without it. */
function missingPart({ services, credentialKeys }: WantedSandbox, input: PlanInput): string | undefined {
  if (credentialKeys !== undefined && !input.mergesKeys)
    return "for the launcher's upgrade: it takes no credentials beside the bundle yet";
  if (services === undefined) return undefined;
  if (!input.givesServices) return "for the launcher's upgrade: it gives sandboxes no services yet";
  return services.missing;
}

/** It failed: the configuration to run next, if there is another. */
function failed(account: PrincipalName, choice: Choice, reason: string): Action | undefined {
  if (choice.onTrial)
    return { kind: "reject", account, rejected: { key: keyOf(choice.sandbox), reason, announced: false } };
  return choice.isDoubtful ? { kind: "give-up", account, reason } : undefined;
}

function exited(one: Case, have: SandboxStatus, sandbox: WantedSandbox, input: PlanInput): Decision {
  const { account, want, past } = one;
  const exit = exitOf(have);
  const same = isSameWork(
    { structure: structureOf(have.digests.spec), payload: have.digests.payload },
    sandbox,
  );
  if (!same || want === undefined || past.collectedExitAt === exit.at)
    return { state: "stopping", ...held(one, input, { kind: "destroy", account, why: "cleared" }) };
  const verdict: Verdict = leaves(want.restartPolicy, exit.code)
    ? { kind: "completed", completion: completionOf(have, exit) }
    : {
        kind: "retry",
        starts: nextStart(past, have, exit, sandbox, input),
        // A program that should always run and ends at once has failed, with any exit code.
        isFailure: exit.code !== 0 || !hasLasted(have, exit),
      };
  return {
    state: verdict.kind === "completed" ? "completed" : "backing-off",
    reason: exit.description,
    ...held(one, input, { kind: "collect", account, exit, verdict }),
  };
}

function running(one: Case, have: SandboxStatus, choice: Choice, input: PlanInput): Decision {
  const { account, past } = one;
  const { sandbox } = choice;
  const watch = { check: sandbox.healthCheck };
  if (have.digests.spec !== sandbox.digests.spec) {
    const missing = missingPart(sandbox, input);
    // The running configuration works; the next one could not start.
    if (missing !== undefined) return { state: "running", reason: `its new configuration waits ${missing}` };
    if (input.mergesKeys && onlyCredentialsChanged(have, sandbox))
      return {
        state: "running",
        reason: "its credentials are being replaced",
        watch,
        ...held(one, input, { kind: "rotate-credentials", account, sandbox }),
      };
    return changed(one, have, input);
  }
  if (have.proxy.state === "dead") return { ...deadProxy(one, sandbox, input), watch };
  const health = input.health.of(have, sandbox.healthCheck);
  if (health.state === "unhealthy") return { ...unhealthy(one, have, choice, health, input), watch };
  const reason = health.reason === undefined ? {} : { reason: `its health check failed: ${health.reason}` };
  const continued: Decision = { state: "running", watch, ...reason };
  if (have.digests.payload !== sandbox.digests.payload)
    return { ...continued, ...held(one, input, { kind: "update-payload", account, sandbox }) };
  if (past.grants !== sandbox.grantsDigest) {
    const { grants, grantsDigest: digest } = sandbox;
    return { ...continued, ...held(one, input, { kind: "push-grants", account, grants, digest }) };
  }
  const action = recorded(one, choice, health, input);
  return action === undefined ? continued : { ...continued, action };
}

/** A proxy can take other credentials while it runs. A secret that was put into the sandbox needs a new sandbox. */
const onlyCredentialsChanged = (have: SandboxStatus, { spec, digests }: WantedSandbox): boolean =>
  structureOf(have.digests.spec) === structureOf(digests.spec) && (spec.secrets ?? []).length === 0;

/** What to store or report about a principal that runs as configured. */
function recorded(one: Case, choice: Choice, health: Health, input: PlanInput): Action | undefined {
  const { account, want, past } = one;
  const { good } = input.history.of(account);
  if (choice.instead?.announced === false)
    return { kind: "announce", account, rejected: { ...choice.instead, announced: true } };
  if (!health.hasPassed || policyOf(one) !== "always") return undefined;
  if (good?.proved === true && isSameSpec(good, choice.sandbox)) return undefined;
  // A payload change while it runs, and a first start, have event messages of their own.
  const isOther =
    good === undefined
      ? past.restarts > 0
      : !isSameSpec({ ...good, payload: choice.sandbox.digests.payload }, choice.sandbox);
  return {
    kind: "keep",
    account,
    good: goodSpecOf(choice.sandbox, true),
    news: isOther ? want?.template : undefined,
  };
}

/** It runs with another configuration. If none is known to work, the running one counts as working. */
function changed(one: Case, have: SandboxStatus, input: PlanInput): Decision {
  const { account, past } = one;
  const { ran } = past;
  const works =
    policyOf(one) === "always" &&
    input.history.of(account).good === undefined &&
    ran !== undefined &&
    past.starts.failures === 0 &&
    ran.structure === structureOf(have.digests.spec) &&
    ran.payload === have.digests.payload &&
    input.health.of(have, ran.healthCheck).reason === undefined;
  const action: Action = {
    kind: "destroy",
    account,
    why: "changed",
    replaced: { have, policy: policyOf(one) },
    keep: works ? ran : undefined,
  };
  return { state: "stopping", ...held(one, input, action) };
}

/** It is unhealthy: the previous configuration runs again; without one it is restarted, as after a crash. */
function unhealthy(
  one: Case,
  have: SandboxStatus,
  choice: Choice,
  health: Health,
  input: PlanInput,
): Decision {
  const { account, past } = one;
  const { sandbox } = choice;
  const reason = `its health check failed: ${health.reason}`;
  const next = failed(account, choice, reason);
  if (next !== undefined) return { state: "running", reason, action: next };
  const key = keyOf(sandbox);
  const before = health.hasPassed || past.starts.key !== key ? noAttempts : past.starts;
  const action: Action = {
    kind: "destroy",
    account,
    why: "unhealthy",
    reason,
    replaced: { have, policy: policyOf(one) },
    starts: { key, ...nextAttempt(before, input) },
  };
  return { state: "stopping", reason, ...held(one, input, action) };
}

const policyOf = ({ want }: Case): RestartPolicy => want?.restartPolicy ?? "always";

/** The first restart is immediate; a proxy that dies again and again is restarted with growing delays. */
function deadProxy({ account, past }: Case, sandbox: WantedSandbox, input: PlanInput): Decision {
  const stable = input.now - past.proxy.at > STABLE_MS;
  const before = stable ? noAttempts : past.proxy;
  if (input.now < before.retryAt)
    return { state: "running", reason: "its proxy died and will be restarted", wakeAt: before.retryAt };
  const proxy = { ...nextAttempt(before, input), at: input.now };
  return {
    state: "running",
    reason: "its proxy died and is being restarted",
    action: { kind: "restart-proxy", account, sandbox, proxy },
  };
}

/** The action, unless the last one failed and its retry is not due. */
function held(one: Case, input: PlanInput, action: Action): { action?: Action; wakeAt?: number } {
  const { retryAt } = one.past.trouble;
  return input.now < retryAt ? { wakeAt: retryAt } : { action };
}

/** The next attempt after a failure: counts it, and doubles the wait. */
export function nextAttempt(before: Attempts, { now, jitter }: Pick<PlanInput, "now" | "jitter">): Attempts {
  return {
    failures: before.failures + 1,
    retryAt: now + delayMs(standardBackoff, before.failures, () => jitter),
  };
}

const hasLasted = (have: SandboxStatus, exit: SandboxExit): boolean => exit.at - have.started_at > STABLE_MS;

/** When to start again after an exit: at once after a first success, else after growing delays. */
function nextStart(
  past: PrincipalState,
  have: SandboxStatus,
  exit: SandboxExit,
  sandbox: WantedSandbox,
  input: PlanInput,
): PrincipalState["starts"] {
  const key = keyOf(sandbox);
  const stable = hasLasted(have, exit) || past.starts.key !== key;
  const before = stable ? noAttempts : past.starts;
  if (exit.code === 0 && before.failures === 0) return { key, failures: 1, retryAt: input.now };
  return { key, ...nextAttempt(before, input) };
}

/** True when the policy does not restart work that ended with this code (wire facts, section 9.16). */
export function leaves(policy: RestartPolicy, code: number): boolean {
  return policy === "never" || (policy === "on-failure" && code === 0);
}

const isSameWork = (done: Pick<Completion, "structure" | "payload">, sandbox: WantedSandbox): boolean =>
  done.structure === structureOf(sandbox.digests.spec) && done.payload === sandbox.digests.payload;

export const completionOf = (have: SandboxStatus, exit: SandboxExit): Completion => ({
  structure: structureOf(have.digests.spec),
  payload: have.digests.payload,
  code: exit.code,
  at: exit.at,
});

const exitOf = (have: SandboxStatus): SandboxExit =>
  have.exit ?? {
    code: -1,
    description: "exit status unknown: the sandbox disappeared",
    at: have.started_at,
  };

function report(
  account: PrincipalName,
  want: DesiredPrincipal | undefined,
  have: SandboxStatus | undefined,
  decision: Decision,
  input: PlanInput,
): PrincipalReport {
  const live = have?.state === "running" ? have : undefined;
  const health =
    live === undefined || decision.watch === undefined
      ? undefined
      : input.health.of(live, decision.watch.check).state;
  const isPrevious =
    want?.outcome.kind === "run" &&
    chooseSandbox(want.outcome.sandbox, want.restartPolicy, input.history.of(account)).instead !== undefined;
  return {
    name: account,
    user_id: want?.userId ?? input.userOf(account),
    state: decision.state,
    template: want?.template ?? "",
    restarts: input.state.of(account).restarts,
    ...(decision.reason === undefined ? {} : { reason: decision.reason }),
    ...(live?.pid === undefined ? {} : { pid: live.pid }),
    ...(live?.proxy.pid === undefined ? {} : { proxy_pid: live.proxy.pid }),
    ...(live === undefined ? {} : { started_at: live.started_at }),
    ...(health === undefined ? {} : { health }),
    ...(isPrevious ? { rolled_back: true } : {}),
    ...(live?.confinement === undefined ? {} : { sandbox: live.confinement }),
  };
}
