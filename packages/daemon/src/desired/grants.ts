/** The grants a principal's proxy is given: the machine's default, the assignment's own, and its shorthands. */
import type { AuthorizationPolicy, Denial, Grant } from "@bureau/schema/authorization";
import type { PrincipalAssignment } from "@bureau/schema/events";
import { anyGlobMatches } from "@bureau/schema/glob";

/** Every action a proxy checks (wire facts, section 7). */
const proxyActions = [
  "matrix/join",
  "matrix/invite",
  "matrix/create-room",
  "matrix/raw-api",
  "service/discover",
] as const;

/** Sources are the wire's words (section 3.4). */
export function grantsOf(
  assignment: PrincipalAssignment,
  defaultPolicy: AuthorizationPolicy | undefined,
): Grant[] {
  const grants = [
    ...stamped(defaultPolicy?.grants, "machine-default"),
    ...stamped(assignment.authorization?.grants, "principal"),
    ...shorthands(assignment),
  ];
  return withoutDenied(grants, [
    ...(defaultPolicy?.denials ?? []),
    ...(assignment.authorization?.denials ?? []),
  ]);
}

const stamped = (grants: Grant[] | undefined, source: string): Grant[] =>
  (grants ?? []).map((grant) => ({ ...grant, source }));

function shorthands(assignment: PrincipalAssignment): Grant[] {
  const policy = assignment.matrix_policy;
  const source = "principal-shorthand";
  const actions = [
    ...(policy?.allow_join ? ["matrix/join"] : []),
    ...(policy?.allow_invite ? ["matrix/invite"] : []),
    ...(policy?.allow_room_create ? ["matrix/create-room"] : []),
  ];
  const visible = assignment.service_visibility ?? [];
  return [
    ...(actions.length > 0 ? [{ actions, source }] : []),
    ...(visible.length > 0 ? [{ actions: ["service/discover"], targets: visible, source }] : []),
  ];
}

/**
 * A proxy is told grants only, so denials are worked into them: where one of the actions a proxy checks is denied, the
 * grants' patterns become the actions that are left. A denial for some targets denies all: never more than was meant.
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
