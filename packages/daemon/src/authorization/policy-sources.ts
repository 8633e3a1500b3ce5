/** The policies of one machine's configuration, as sources of its authorization index. Pure. */
import type { AuthorizationPolicy } from "@bureau/schema/authorization";
import { type PolicySource, shorthandPolicy } from "@bureau/schema/authorization-index";
import type { PrincipalAssignment } from "@bureau/schema/events";
import type { UserId } from "@bureau/schema/refs";

/** By user ID; undefined when the assignment cannot be used. */
export type Assignments = ReadonlyMap<UserId, PrincipalAssignment | undefined>;

/** In the order in which grants are listed. */
export const policySources = (defaultPolicy: AuthorizationPolicy, assigned: Assignments): PolicySource[] => [
  machineDefault(defaultPolicy, assigned),
  {
    name: "principal",
    users: [...assigned.keys()],
    policyOf: (user) => assigned.get(user)?.authorization,
  },
  {
    name: "principal-shorthand",
    users: [...assigned.keys()],
    policyOf(user) {
      const assignment = assigned.get(user);
      return assignment === undefined ? undefined : shorthandPolicy(assignment);
    },
  },
];

/**
 * The default grants are for principals of this machine. A principal whose assignment cannot be used gets none: its
 * denials are not known. The rest applies to every user: a sandbox whose principal was taken out of the configuration
 * can be observed until it has stopped.
 */
function machineDefault(policy: AuthorizationPolicy, assigned: Assignments): PolicySource {
  const { grants: _, ...forOthers } = policy;
  return {
    name: "machine-default",
    users: [...assigned.keys()],
    policyOf: (user) => (assigned.get(user) === undefined ? forOthers : policy),
  };
}
