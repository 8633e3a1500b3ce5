/** The grants that a principal's proxy is given. */
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
 * A proxy is given grants only, so denials are applied to them here: where one of the actions a proxy checks is denied,
 * the grants' patterns become the actions that are left. A denial for some targets denies all: never more than was meant.
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
