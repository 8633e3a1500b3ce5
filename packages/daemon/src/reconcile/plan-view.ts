/**
 * What `bureau debug` shows of the planner: its inputs and its result, as plain JSON. Only fields named here are shown.
 * Sandbox specs, payloads, environments, credentials and the output of programs are not shown: digests replace them.
 */
import type { SandboxStatus } from "@bureau/schema/launcher-ipc";
import type { PrincipalName } from "@bureau/schema/refs";
import type { Desired, DesiredOutcome, WantedSandbox } from "../desired/desired.ts";
import type { Action, Plan, PlanInput } from "./plan.ts";
import type { ReconcileState } from "./reconcile-state.ts";
import { keyOf } from "./rollback.ts";
import type { GoodSpec, SpecHistory } from "./spec-history.ts";

type Shown = Record<string, unknown>;

export function planView({ input, result }: { readonly input: PlanInput; readonly result: Plan }): Shown {
  const { desired, actual, state, history, health, busy, now, jitter } = input;
  return {
    input: {
      desired: desired === undefined ? undefined : desiredView(desired),
      actual: actual.map(sandboxView),
      state: stateView(state, history),
      health: Object.fromEntries(
        actual.map((sandbox) => [
          sandbox.principal,
          health.of(sandbox, result.checks.get(sandbox.principal)),
        ]),
      ),
      busy: Object.fromEntries(busy),
      now,
      jitter,
    },
    result: {
      actions: result.actions.map(actionView),
      reports: result.reports,
      checks: Object.fromEntries([...result.checks].map(([name, check]) => [name, check ?? "none"])),
      wakeAt: result.wakeAt,
      drained: result.drained,
    },
  };
}

/** The reconcile state of each principal, in memory and on disk. */
export function stateView(
  state: Pick<ReconcileState, "of" | "completion" | "accounts">,
  history: Pick<SpecHistory, "of" | "accounts">,
): Shown {
  const names = [...new Set([...state.accounts(), ...history.accounts()])].sort();
  return Object.fromEntries(names.map((name) => [name, principalView(name, state, history)]));
}

function principalView(
  name: PrincipalName,
  state: Pick<ReconcileState, "of" | "completion">,
  history: Pick<SpecHistory, "of">,
): Shown {
  const { ran, ...rest } = state.of(name);
  const { good, rejected } = history.of(name);
  return {
    ...rest,
    ran: goodView(ran),
    completion: state.completion(name),
    history: { good: goodView(good), rejected },
  };
}

const goodView = (good: GoodSpec | undefined): Shown | undefined =>
  good === undefined
    ? undefined
    : {
        structure: good.structure,
        payload: good.payload,
        healthCheck: good.healthCheck,
        proved: good.proved,
      };

const desiredView = (desired: Desired): Shown => ({
  principals: Object.fromEntries(
    [...desired.principals].map(([name, { userId, template, restartPolicy, outcome }]) => [
      name,
      { userId, template, restartPolicy, outcome: outcomeView(outcome) },
    ]),
  ),
  faults: desired.faults,
  aliases: [...desired.aliases],
  conditions: desired.conditions,
  configSentAt: desired.configSentAt,
  decommission: desired.decommission,
});

const outcomeView = (outcome: DesiredOutcome): Shown =>
  outcome.kind === "run" ? { kind: "run", ...wantedView(outcome.sandbox) } : { ...outcome };

const wantedView = (sandbox: WantedSandbox): Shown => ({
  key: keyOf(sandbox),
  digests: sandbox.digests,
  grantsDigest: sandbox.grantsDigest,
  workspace: sandbox.workspace,
  healthCheck: sandbox.healthCheck,
});

const sandboxView = ({ principal, digests, state, exit, pid, proxy, started_at }: SandboxStatus): Shown => ({
  principal,
  digests,
  state,
  exit: exit === undefined ? undefined : { code: exit.code, description: exit.description, at: exit.at },
  pid,
  proxy,
  started_at,
});

/** The fields of an action that name or explain it. */
function actionView(action: Action): Shown {
  return {
    kind: action.kind,
    principal: action.account,
    why: "why" in action ? action.why : undefined,
    reason: "reason" in action ? action.reason : undefined,
    instead: "instead" in action ? action.instead : undefined,
    rejected: "rejected" in action ? action.rejected : undefined,
    verdict: "verdict" in action ? action.verdict : undefined,
    sandbox: "sandbox" in action ? wantedView(action.sandbox) : undefined,
  };
}
