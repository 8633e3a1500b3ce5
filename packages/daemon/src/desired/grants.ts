/** The grants for a principal's proxy. */
import type { AuthorizationPolicy, Denial, Grant } from "@bureau/schema/authorization";
import { anyGlobMatches } from "@bureau/schema/glob";

/** Every action a proxy checks (wire facts, section 7). */
const proxyActions = [
  "matrix/join",
  "matrix/invite",
  "matrix/create-room",
  "matrix/raw-api",
  "service/discover",
] as const;

/** `policy` is everything that applies to the principal. */
export const grantsOf = ({ grants = [], denials = [] }: AuthorizationPolicy): Grant[] =>
  withoutDenied(grants, denials);

/**
 * A proxy gets grants only, so denials are applied here: when an action that a proxy checks is denied, the patterns of
 * the grants are replaced by the actions that remain. A denial for some targets denies all, so a proxy never allows too
 * much.
 */
function withoutDenied(grants: Grant[], denials: readonly Denial[]): Grant[] {
  const denied = proxyActions.filter((action) =>
    denials.some((denial) => anyGlobMatches(denial.actions ?? [], action)),
  );
  if (denied.length === 0) return grants;
  return grants
    .map((grant) => ({
      ...grant,
      actions: proxyActions.filter(
        (action) => anyGlobMatches(grant.actions ?? [], action) && !denied.includes(action),
      ),
    }))
    .filter((grant) => grant.actions.length > 0);
}
