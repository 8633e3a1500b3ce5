/**
 * Grants (what an actor may do), allowances (what a target permits others to do to it), and their denials: default deny.
 * Shapes and order of evaluation are the wire's (sections 3.4 and 3.9).
 */
import * as v from "valibot";
import { anyGlobMatches, type Matcher, userPatternMatcher } from "./glob.ts";
import { list, unset } from "./parse.ts";

export const GrantSchema = v.object({
  actions: list(v.string()),
  targets: v.optional(list(v.string())),
  /** RFC 3339; a grant at or after it is expired. */
  expires_at: unset(v.string()),
  ticket: unset(v.string()),
  granted_by: unset(v.string()),
  granted_at: unset(v.string()),
  source: unset(v.string()),
});
export type Grant = v.InferOutput<typeof GrantSchema>;

const DenialSchema = v.object({
  actions: list(v.string()),
  targets: v.optional(list(v.string())),
  source: unset(v.string()),
});
export type Denial = v.InferOutput<typeof DenialSchema>;

export const AllowanceSchema = v.object({
  actions: list(v.string()),
  actors: list(v.string()),
  source: unset(v.string()),
});
export type Allowance = v.InferOutput<typeof AllowanceSchema>;

export const AuthorizationPolicySchema = v.object({
  grants: v.optional(list(GrantSchema)),
  denials: v.optional(list(DenialSchema)),
  allowances: v.optional(list(AllowanceSchema)),
  allowance_denials: v.optional(list(AllowanceSchema)),
});
export type AuthorizationPolicy = v.InferOutput<typeof AuthorizationPolicySchema>;

/** The reasons are the wire's strings: audit events and observe replies contain them. */
const denialReasons = [
  "no matching grant",
  "matching grant expired",
  "explicit denial",
  "no matching allowance on target",
  "explicit allowance denial on target",
] as const;
export type DenialReason = (typeof denialReasons)[number];

/** The rules that decided: what matched on the way, up to the one that ended it. */
type Matched = {
  readonly grant?: Grant;
  readonly denial?: Denial;
  readonly allowance?: Allowance;
  readonly allowanceDenial?: Allowance;
};

export type Decision =
  | ({ readonly allowed: true } & Matched)
  | ({ readonly allowed: false; readonly reason: DenialReason } & Matched);

/**
 * The actor's side: may it do `action` (on `target`, a user ID, or on itself when undefined)? Evaluates each policy as it
 * stands in the list; a denial in any of them holds.
 */
export function checkGrants(
  policies: readonly AuthorizationPolicy[],
  action: string,
  target: string | undefined,
  nowMs: number,
): Decision {
  let expired: Grant | undefined;
  let live: Grant | undefined;
  for (const policy of policies)
    for (const { rule, matches, expiresAtMs } of rulesOf(policy, action).grants) {
      if (!matches(target)) continue;
      if (nowMs < expiresAtMs) {
        live = rule;
        break;
      }
      expired = rule;
    }
  if (live === undefined)
    return expired === undefined
      ? { allowed: false, reason: "no matching grant" }
      : { allowed: false, reason: "matching grant expired", grant: expired };
  for (const policy of policies)
    for (const { rule, matches } of rulesOf(policy, action).denials)
      if (matches(target)) return { allowed: false, reason: "explicit denial", grant: live, denial: rule };
  return { allowed: true, grant: live };
}

/** The target's side: does it let `actor` (a user ID) do `action` to it? */
export function checkAllowances(
  policies: readonly AuthorizationPolicy[],
  action: string,
  actor: string,
): Decision {
  let allowance: Allowance | undefined;
  for (const policy of policies) {
    allowance = rulesOf(policy, action).allowances.find(({ matches }) => matches(actor))?.rule;
    if (allowance !== undefined) break;
  }
  if (allowance === undefined) return { allowed: false, reason: "no matching allowance on target" };
  for (const policy of policies)
    for (const { rule, matches } of rulesOf(policy, action).allowanceDenials)
      if (matches(actor))
        return {
          allowed: false,
          reason: "explicit allowance denial on target",
          allowance,
          allowanceDenial: rule,
        };
  return { allowed: true, allowance };
}

/** Both sides, in the wire's order: grant, denial, (an act on oneself needs no more), allowance, allowance denial. */
export function checkBoth(
  actor: { readonly user: string; readonly policies: readonly AuthorizationPolicy[] },
  action: string,
  target: { readonly user: string; readonly policies: readonly AuthorizationPolicy[] } | undefined,
  nowMs: number,
): Decision {
  const granted = checkGrants(actor.policies, action, target?.user, nowMs);
  if (!granted.allowed || target === undefined) return granted;
  return { ...granted, ...checkAllowances(target.policies, action, actor.user) };
}

/** Joins policies: lists are concatenated, so a denial in any of them holds. */
export function joinPolicies(...policies: (AuthorizationPolicy | undefined)[]): AuthorizationPolicy {
  const present = policies.filter((policy) => policy !== undefined);
  return {
    grants: present.flatMap((policy) => policy.grants ?? []),
    denials: present.flatMap((policy) => policy.denials ?? []),
    allowances: present.flatMap((policy) => policy.allowances ?? []),
    allowance_denials: present.flatMap((policy) => policy.allowance_denials ?? []),
  };
}

/** One policy's rules for one action, with their patterns read. */
type ActionRules = {
  readonly grants: readonly {
    readonly rule: Grant;
    readonly matches: (target: string | undefined) => boolean;
    /** `Infinity` without an expiry. An unreadable expiry counts as past: fail closed. */
    readonly expiresAtMs: number;
  }[];
  readonly denials: readonly {
    readonly rule: Denial;
    readonly matches: (target: string | undefined) => boolean;
  }[];
  readonly allowances: readonly { readonly rule: Allowance; readonly matches: Matcher }[];
  readonly allowanceDenials: readonly { readonly rule: Allowance; readonly matches: Matcher }[];
};

/** Actions come from outside too (`credential/use/…`), so each policy keeps the rules of a limited number. */
const ACTIONS_MAX = 256;

/** By policy: a policy is never changed, and is forgotten with its event. */
const byPolicy = new WeakMap<AuthorizationPolicy, Map<string, ActionRules>>();

function rulesOf(policy: AuthorizationPolicy, action: string): ActionRules {
  let byAction = byPolicy.get(policy);
  if (byAction === undefined) {
    byAction = new Map();
    byPolicy.set(policy, byAction);
  }
  let rules = byAction.get(action);
  if (rules === undefined) {
    rules = readRules(policy, action);
    if (byAction.size >= ACTIONS_MAX) byAction.clear();
    byAction.set(action, rules);
  }
  return rules;
}

function readRules(policy: AuthorizationPolicy, action: string): ActionRules {
  const named = <Rule extends { readonly actions: readonly string[] }>(rules: readonly Rule[] = []): Rule[] =>
    rules.filter(({ actions }) => anyGlobMatches(actions, action));
  const bothWays = ({ actors }: Allowance): Matcher => anyOf(actors.map(userPatternMatcher));
  return {
    grants: named(policy.grants).map((rule) => ({
      rule,
      matches: targetMatcher(rule.targets),
      expiresAtMs: expiryOf(rule),
    })),
    denials: named(policy.denials).map((rule) => ({ rule, matches: targetMatcher(rule.targets) })),
    allowances: named(policy.allowances).map((rule) => ({ rule, matches: bothWays(rule) })),
    allowanceDenials: named(policy.allowance_denials).map((rule) => ({ rule, matches: bothWays(rule) })),
  };
}

/** An act on oneself has no target, and needs none. */
function targetMatcher(patterns: readonly string[] = []): (target: string | undefined) => boolean {
  const matches = anyOf(patterns.map(userPatternMatcher));
  return (target) => target === undefined || matches(target);
}

function anyOf(matchers: readonly Matcher[]): Matcher {
  const [first, ...others] = matchers;
  if (first === undefined) return () => false;
  return others.length === 0 ? first : (value) => matchers.some((matches) => matches(value));
}

/** RFC 3339 with its zone: without one the time would depend on the reader's zone. */
const rfc3339 = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/u;

/** Milliseconds since the epoch at which a grant ends. An unreadable time counts as past: fail closed. */
export function expiryOf({ expires_at }: Pick<Grant, "expires_at">): number {
  if (expires_at === undefined) return Number.POSITIVE_INFINITY;
  const at = rfc3339.test(expires_at) ? Date.parse(expires_at) : Number.NaN;
  return Number.isNaN(at) ? Number.NEGATIVE_INFINITY : at;
}
