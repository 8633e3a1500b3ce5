/**
 * What operators ask of the authorization (wire facts, section 8.1). A user may ask about themselves; moderators of the
 * machine's config room may ask about every user.
 */
import { BureauError } from "@bureau/kit/errors";
import type { Allowance, Decision } from "@bureau/schema/authorization";
import type { AuthorizationIndex } from "@bureau/schema/authorization-index";
import { userPatternMatcher } from "@bureau/schema/glob";
import type {
  AllowancesReply,
  AuthorizationReply,
  GrantsReply,
  ObserveRequest,
} from "@bureau/schema/observe-wire";
import { MODERATOR_LEVEL } from "@bureau/schema/power";
import { parseUserId, type UserId } from "@bureau/schema/refs";
import type { Authorize } from "../authorization/authorize.ts";

export type QueryDeps = {
  readonly authorize: Authorize;
  /** Undefined while no configuration is known. */
  readonly index: () => AuthorizationIndex | undefined;
  /** A user's power level in the machine's config room. */
  readonly levelOf: (user: UserId) => number;
};

export function queryAuthorization(
  deps: QueryDeps,
  asking: UserId,
  { actor, auth_action = "", target }: ObserveRequest,
): AuthorizationReply {
  const subject = userOf("actor", actor);
  requireAccess(deps, asking, subject);
  if (auth_action === "") throw new BureauError("invalid-input", "The request names no auth_action");
  const object = target === undefined || target === "" ? undefined : userOf("target", target);
  const policy = knownIndex(deps).policyOf(subject);
  const theirs = object === undefined ? {} : knownIndex(deps).policyOf(object);
  const decision = deps.authorize(subject, auth_action, object);
  const reply = {
    ok: true as const,
    ...matched(decision),
    actor_grants: policy.grants,
    actor_denials: policy.denials,
    target_allowances: theirs.allowances,
    target_allowance_denials: theirs.allowance_denials,
  };
  return object === undefined || mayAsk(deps, asking, object) ? reply : onlyAbout(subject, reply);
}

/** Without what the target's rules say of other users. */
function onlyAbout(actor: UserId, reply: AuthorizationReply): AuthorizationReply {
  const { matched_allowance, matched_allowance_denial } = reply;
  const own = (rule: Allowance): Allowance => ({
    ...rule,
    actors: rule.actors.filter((pattern) => userPatternMatcher(pattern)(actor)),
  });
  const ownOf = (rules: readonly Allowance[] = []): Allowance[] =>
    rules.map(own).filter(({ actors }) => actors.length > 0);
  return {
    ...reply,
    target_allowances: ownOf(reply.target_allowances ?? []),
    target_allowance_denials: ownOf(reply.target_allowance_denials ?? []),
    ...(matched_allowance === undefined ? {} : { matched_allowance: own(matched_allowance) }),
    ...(matched_allowance_denial === undefined
      ? {}
      : { matched_allowance_denial: own(matched_allowance_denial) }),
  };
}

export function queryGrants(deps: QueryDeps, asking: UserId, request: ObserveRequest): GrantsReply {
  const user = userOf("principal", request.principal);
  requireAccess(deps, asking, user);
  const { grants, denials } = knownIndex(deps).policyOf(user);
  return { ok: true, principal: user, grants, denials };
}

export function queryAllowances(deps: QueryDeps, asking: UserId, request: ObserveRequest): AllowancesReply {
  const user = userOf("principal", request.principal);
  requireAccess(deps, asking, user);
  const { allowances, allowance_denials } = knownIndex(deps).policyOf(user);
  return { ok: true, principal: user, allowances, allowance_denials };
}

function matched(
  decision: Decision,
): Omit<
  AuthorizationReply,
  "ok" | "actor_grants" | "actor_denials" | "target_allowances" | "target_allowance_denials"
> {
  const { grant, denial, allowance, allowanceDenial } = decision;
  return {
    decision: decision.allowed ? "allow" : "deny",
    reason: decision.allowed ? undefined : decision.reason,
    ...(grant === undefined ? {} : { matched_grant: grant }),
    ...(denial === undefined ? {} : { matched_denial: denial }),
    ...(allowance === undefined ? {} : { matched_allowance: allowance }),
    ...(allowanceDenial === undefined ? {} : { matched_allowance_denial: allowanceDenial }),
  };
}

const mayAsk = ({ levelOf }: QueryDeps, asking: UserId, about: UserId): boolean =>
  asking === about || levelOf(asking) >= MODERATOR_LEVEL;

function requireAccess(deps: QueryDeps, asking: UserId, subject: UserId): void {
  if (mayAsk(deps, asking, subject)) return;
  throw new BureauError("forbidden", `${asking} may not ask what ${subject} may do`, {
    hint: `ask a user with power level ${MODERATOR_LEVEL} in the machine's config room`,
  });
}

function knownIndex({ index }: QueryDeps): AuthorizationIndex {
  const known = index();
  if (known !== undefined) return known;
  throw new BureauError("unavailable", "The machine has not read its configuration yet", {
    hint: "bureau status says what it waits for",
  });
}

function userOf(field: string, value: string | undefined): UserId {
  if (value === undefined || value === "")
    throw new BureauError("invalid-input", `The request names no ${field}`);
  return parseUserId(value);
}
