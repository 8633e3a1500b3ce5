/** The order in which `--fix` does what checks ask for. */
import { canonicalJson } from "@bureau/kit/canonical-json";
import { type Action, actionKindOf, describeAction } from "../resources/registry.ts";

/** An action together with the checks that ask for it. */
export type Step = { readonly action: Action; readonly checks: readonly string[] };

export const actionKey = (action: Action): string => canonicalJson(action);

/**
 * The wanted actions, each once, by rank. Actions of one kind stay in the order they came in, so that folders above are made
 * before folders below. Pure.
 */
export function planSteps(
  wanted: readonly { readonly check: string; readonly actions: readonly Action[] }[],
): Step[] {
  const steps = new Map<string, { action: Action; checks: string[] }>();
  for (const { check, actions } of wanted)
    for (const action of actions) {
      const known = steps.get(actionKey(action));
      if (known === undefined) steps.set(actionKey(action), { action, checks: [check] });
      else if (!known.checks.includes(check)) known.checks.push(check);
    }
  const plan = [...steps.values()].map(({ action }) => action);
  return [...steps.values()]
    .filter(({ action }) => actionKindOf(action).isCovered?.(action, plan) !== true)
    .sort((a, b) => actionKindOf(a.action).rank - actionKindOf(b.action).rank);
}

/** One action that was done, and a check it is for. */
export type Change = { readonly id: string; readonly what: string };

export const changesOf = (steps: readonly Step[]): Change[] =>
  steps.flatMap(({ action, checks }) => checks.map((id) => ({ id, what: describeAction(action) })));
