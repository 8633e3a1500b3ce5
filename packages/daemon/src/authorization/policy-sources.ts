/** The policies of one machine's configuration, as sources of its authorization index. Pure. */
import type { AuthorizationPolicy } from "@bureau/schema/authorization";
import { type PolicySource, type SourceName, shorthandPolicy } from "@bureau/schema/authorization-index";
import type { PrincipalAssignment } from "@bureau/schema/events";
import type { RoomId, UserId } from "@bureau/schema/refs";

/** What one machine's configuration says of a principal. */
export type AssignedPolicies = {
  readonly assignment: PrincipalAssignment;
  /** Of its resolved template; undefined when that has none, or is not known. */
  readonly template?: AuthorizationPolicy | undefined;
  /** The room it works in, besides the config room. */
  readonly workspace?: RoomId | undefined;
};

/** By user ID; undefined when the assignment cannot be used. */
export type Assignments = ReadonlyMap<UserId, AssignedPolicies | undefined>;

/** In the order in which grants are listed. */
export const policySources = (defaultPolicy: AuthorizationPolicy, assigned: Assignments): PolicySource[] => {
  const ofPrincipals = (
    name: SourceName,
    policyOf: (policies: AssignedPolicies) => AuthorizationPolicy | undefined,
  ): PolicySource => ({
    name,
    users: assigned,
    policiesOf(user) {
      const policies = assigned.get(user);
      const policy = policies === undefined ? undefined : policyOf(policies);
      return policy === undefined ? [] : [policy];
    },
  });
  return [
    machineDefault(defaultPolicy, assigned),
    ofPrincipals("template", ({ template }) => template),
    ofPrincipals("principal", ({ assignment }) => assignment.authorization),
    ofPrincipals("principal-shorthand", ({ assignment }) => shorthandsOf(assignment)),
  ];
};

/** By assignment: the index keeps what it read of a policy while that is the same object. */
const shorthands = new WeakMap<PrincipalAssignment, AuthorizationPolicy>();

function shorthandsOf(assignment: PrincipalAssignment): AuthorizationPolicy {
  const policy = shorthands.get(assignment) ?? shorthandPolicy(assignment);
  shorthands.set(assignment, policy);
  return policy;
}

/** The default policy without its grants, by the policy. */
const withoutGrants = new WeakMap<AuthorizationPolicy, AuthorizationPolicy>();

/**
 * The default grants are for principals of this machine. A principal whose assignment cannot be used gets none: its
 * denials are not known. The rest applies to every user: a sandbox whose principal was taken out of the configuration
 * can be observed until it has stopped.
 */
function machineDefault(policy: AuthorizationPolicy, assigned: Assignments): PolicySource {
  const { grants: _, ...rest } = policy;
  const forOthers = withoutGrants.get(policy) ?? rest;
  withoutGrants.set(policy, forOthers);
  return {
    name: "machine-default",
    users: assigned,
    policiesOf: (user) => [assigned.get(user) === undefined ? forOthers : policy],
  };
}
