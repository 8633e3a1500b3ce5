/**
 * Grants (what an actor may do), allowances (what a target permits others to do to it), and their denials: default deny.
 * Shapes and order of evaluation are the wire's (sections 3.4 and 3.9).
 */
import * as v from "valibot";
import { anyGlobMatches, anyUserMatcher, type Matcher } from "./glob.ts";
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

export const DenialSchema = v.object({
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
export const denialReasons = [
  "no matching grant",
  "matching grant expired",
  "explicit denial",
  "no matching allowance on target",
  "explicit allowance denial on target",
] as const;
export type DenialReason = (typeof denialReasons)[number];

/** The rules that decided: what matched on the way, up to the one that ended it. */
type Matched = {
  readonly grant?: Grant | undefined;
  readonly denial?: Denial | undefined;
  readonly allowance?: Allowance | undefined;
  readonly allowanceDenial?: Allowance | undefined;
};

export type Decision =
  | ({ readonly allowed: true } & Matched)
  | ({ readonly allowed: false; readonly reason: DenialReason } & Matched);

/**
 * The actor's side: may it do `action` (on `target`, a user ID, or on itself when undefined)? Evaluates each policy as it
 * stands in the list; a denial in any of them holds.
 */
export const checkGrants = (
  policies: readonly AuthorizationPolicy[],
  action: string,
  target: string | undefined,
  nowMs: number,
): Decision => decideGrants(rulesOf(policies, action), target, nowMs);

/** The target patterns of the grants that permit `action` now. */
export const grantedTargets = (grants: readonly Grant[], action: string, nowMs: number): string[] =>
  grants
    .filter((grant) => anyGlobMatches(grant.actions, action) && nowMs < expiryOf(grant))
    .flatMap(({ targets }) => targets ?? []);

/**
 * Both sides, of their rules for one action, in the wire's order: grant, denial, (an act on oneself needs no more),
 * allowance, allowance denial.
 */
export function decide(
  actor: { readonly user: string; readonly rules: ActionRules },
  target: { readonly user: string; readonly rules: ActionRules } | undefined,
  nowMs: number,
): Decision {
  const granted = decideGrants(actor.rules, target?.user, nowMs);
  if (!granted.allowed || target === undefined) return granted;
  const { grant } = granted;
  const side = decideAllowances(target.rules, actor.user);
  const { allowance, allowanceDenial } = side;
  return side.allowed
    ? { allowed: true, grant, allowance }
    : { allowed: false, reason: side.reason, grant, allowance, allowanceDenial };
}

/** {@link checkGrants} of rules for one action. */
function decideGrants({ grants, denials }: ActionRules, target: string | undefined, nowMs: number): Decision {
  let expired: Grant | undefined;
  let live: Grant | undefined;
  for (const { rule, matches, expiresAtMs } of grants) {
    if (target !== undefined && !matches(target)) continue;
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
  for (const { rule, matches } of denials)
    if (target === undefined || matches(target))
      return { allowed: false, reason: "explicit denial", grant: live, denial: rule };
  return { allowed: true, grant: live };
}

/** The target's side, of its rules for one action: does it let `actor` (a user ID) do it? */
export function decideAllowances({ allowances, allowanceDenials }: ActionRules, actor: string): Decision {
  const allowance = firstFor(allowances, actor);
  if (allowance === undefined) return { allowed: false, reason: "no matching allowance on target" };
  const allowanceDenial = firstFor(allowanceDenials, actor);
  return allowanceDenial === undefined
    ? { allowed: true, allowance }
    : { allowed: false, reason: "explicit allowance denial on target", allowance, allowanceDenial };
}

function firstFor(rules: readonly Read<Allowance>[], actor: string): Allowance | undefined {
  for (const { rule, matches } of rules) if (matches(actor)) return rule;
  return undefined;
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

/** The rules for one action, of one policy or of a list of them, with their patterns read. */
export type ActionRules = {
  readonly grants: readonly (Read<Grant> & {
    /** `Infinity` without an expiry. An unreadable expiry counts as past: fail closed. */
    readonly expiresAtMs: number;
  })[];
  readonly denials: readonly Read<Denial>[];
  readonly allowances: readonly Read<Allowance>[];
  readonly allowanceDenials: readonly Read<Allowance>[];
};

/** `matches` is for the other user. An act on oneself has no target, and needs no pattern. */
type Read<Rule> = { readonly rule: Rule; readonly matches: Matcher };

/** Actions come from outside too (`credential/use/…`), so each policy keeps the rules of a limited number. */
export const ACTIONS_KEPT_MAX = 256;

/** By policy: a policy is never changed, and is forgotten with its event. */
const byPolicy = new WeakMap<AuthorizationPolicy, Map<string, ActionRules>>();

function rulesOfOne(policy: AuthorizationPolicy, action: string): ActionRules {
  let byAction = byPolicy.get(policy);
  if (byAction === undefined) {
    byAction = new Map();
    byPolicy.set(policy, byAction);
  }
  let rules = byAction.get(action);
  if (rules === undefined) {
    rules = readRules(policy, action);
    if (byAction.size >= ACTIONS_KEPT_MAX) byAction.clear();
    byAction.set(action, rules);
  }
  return rules;
}

/** The rules of a list's policies for one action, in the order of the list. */
export function rulesOf(policies: readonly AuthorizationPolicy[], action: string): ActionRules {
  const all = policies.map((policy) => rulesOfOne(policy, action));
  const joined = <Rule>(of: (rules: ActionRules) => readonly Rule[]): readonly Rule[] => {
    const [first = [], ...others] = all.map(of).filter((rules) => rules.length > 0);
    return others.length === 0 ? first : [first, ...others].flat();
  };
  return {
    grants: joined(({ grants }) => grants),
    denials: joined(({ denials }) => denials),
    allowances: joined(({ allowances }) => allowances),
    allowanceDenials: joined(({ allowanceDenials }) => allowanceDenials),
  };
}

function readRules(policy: AuthorizationPolicy, action: string): ActionRules {
  const named = <Rule extends { readonly actions: readonly string[] }>(rules: readonly Rule[] = []): Rule[] =>
    rules.filter(({ actions }) => anyGlobMatches(actions, action));
  return {
    grants: named(policy.grants).map((rule) => ({
      rule,
      matches: anyUserMatcher(rule.targets),
      expiresAtMs: expiryOf(rule),
    })),
    denials: named(policy.denials).map((rule) => ({ rule, matches: anyUserMatcher(rule.targets) })),
    allowances: named(policy.allowances).map((rule) => ({ rule, matches: anyUserMatcher(rule.actors) })),
    allowanceDenials: named(policy.allowance_denials).map((rule) => ({
      rule,
      matches: anyUserMatcher(rule.actors),
    })),
  };
}

/** RFC 3339 with its zone: without one the time would depend on the reader's zone. */
const rfc3339 = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/u;

/** Milliseconds since the epoch at which a grant ends. An unreadable time counts as past: fail closed. */
export function expiryOf({ expires_at }: Pick<Grant, "expires_at">): number {
  if (expires_at === undefined) return Number.POSITIVE_INFINITY;
  const at = rfc3339.test(expires_at) ? Date.parse(expires_at) : Number.NaN;
  return Number.isNaN(at) ? Number.NEGATIVE_INFINITY : at;
}
