/**
 * Grants (what an actor may do), allowances (what a target permits others to do to it), and their denials: default deny.
 * Shapes and order of evaluation are the wire's (sections 3.4 and 3.9).
 */
import * as v from "valibot";
import { anyGlobMatches, userPatternMatches } from "./glob.ts";
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

const AllowanceSchema = v.object({
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
export type Decision =
  | { readonly allowed: true; readonly grant?: Grant; readonly allowance?: Allowance }
  | {
      readonly allowed: false;
      readonly reason:
        | "no matching grant"
        | "matching grant expired"
        | "explicit denial"
        | "no matching allowance on target"
        | "explicit allowance denial on target";
    };

/** Does the actor's side permit `action` (on `target`, a user ID, or on itself when undefined)? */
export function checkGrants(
  policy: AuthorizationPolicy,
  action: string,
  target: string | undefined,
  nowMs: number,
): Decision {
  const matching = (policy.grants ?? []).filter(
    (grant) => anyGlobMatches(grant.actions, action) && targetsMatch(grant.targets, target),
  );
  const live = matching.find((grant) => !isExpired(grant, nowMs));
  if (live === undefined)
    return { allowed: false, reason: matching.length > 0 ? "matching grant expired" : "no matching grant" };
  const denied = (policy.denials ?? []).some(
    (denial) => anyGlobMatches(denial.actions, action) && targetsMatch(denial.targets, target),
  );
  return denied ? { allowed: false, reason: "explicit denial" } : { allowed: true, grant: live };
}

/** Does the target's side let `actor` (a user ID) do `action` to it? */
export function checkAllowances(policy: AuthorizationPolicy, action: string, actor: string): Decision {
  const matches = (allowance: Allowance): boolean =>
    anyGlobMatches(allowance.actions, action) &&
    allowance.actors.some((pattern) => userPatternMatches(pattern, actor));
  const allowance = (policy.allowances ?? []).find(matches);
  if (allowance === undefined) return { allowed: false, reason: "no matching allowance on target" };
  if ((policy.allowance_denials ?? []).some(matches))
    return { allowed: false, reason: "explicit allowance denial on target" };
  return { allowed: true, allowance };
}

/** Both sides, in the wire's order: grant, denial, (an act on oneself needs no more), allowance, allowance denial. */
export function checkBoth(
  actor: { readonly user: string; readonly policy: AuthorizationPolicy },
  action: string,
  target: { readonly user: string; readonly policy: AuthorizationPolicy } | undefined,
  nowMs: number,
): Decision {
  const granted = checkGrants(actor.policy, action, target?.user, nowMs);
  if (!granted.allowed || target === undefined) return granted;
  const permitted = checkAllowances(target.policy, action, actor.user);
  return permitted.allowed ? { ...granted, ...permitted } : permitted;
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

function targetsMatch(patterns: readonly string[] | undefined, target: string | undefined): boolean {
  if (target === undefined) return true;
  return (patterns ?? []).some((pattern) => userPatternMatches(pattern, target));
}

/** RFC 3339 with its zone: without one the time would depend on the reader's zone. */
const rfc3339 = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/u;

/** An unreadable expiry counts as past: fail closed. */
function isExpired(grant: Grant, nowMs: number): boolean {
  if (grant.expires_at === undefined) return false;
  const at = rfc3339.test(grant.expires_at) ? Date.parse(grant.expires_at) : Number.NaN;
  return Number.isNaN(at) || nowMs >= at;
}
