/**
 * Who may do what to whom, from every policy that applies: one index over a list of sources (wire facts, sections 3.4 and
 * 3.9). Pure. Sources only add rules; a denial in any of them holds. Without a matching rule the answer is a denial.
 *
 * An index is cheap to make after each event: it reads the policies of a user when they are asked for. What a policy says
 * is kept with the policy (see `authorization.ts`), and a policy that no event changed is the same object. So an answer
 * costs the rules of its two users, however many there are.
 *
 * An act on another principal needs a grant of the actor and an allowance of the target. An act without a target needs a
 * grant only. Observation needs an allowance only, also of operators.
 */
import {
  ACTIONS_KEPT_MAX,
  type ActionRules,
  type AuthorizationPolicy,
  type Decision,
  decide,
  decideAllowances,
  joinPolicies,
  rulesOf,
} from "./authorization.ts";
import { globMatcher } from "./glob.ts";
import type { UserId } from "./refs.ts";

/** The wire's names of where a rule comes from. */
export type SourceName =
  | "machine-default"
  | "principal"
  | "principal-shorthand"
  /** Ours: a template's own policy. */
  | "template"
  | "temporal"
  | `room:${string}`;

/** One place that policies come from. */
export type PolicySource = {
  readonly name: SourceName;
  /** The users it names, a map by user or a set of them. It may apply to others too. */
  readonly users: Pick<ReadonlySet<UserId>, "has" | "keys">;
  /** What it says of `user`. A policy is the same object until an event changes it. */
  policiesOf(user: UserId): readonly AuthorizationPolicy[];
};

export class AuthorizationIndex {
  readonly #sources: readonly PolicySource[];
  readonly #policies = new Map<UserId, readonly AuthorizationPolicy[]>();
  /** By action, then by user: one answer finds the rules of each side at once. */
  readonly #rules = new Map<string, Map<UserId, ActionRules>>();

  constructor(sources: readonly PolicySource[]) {
    this.#sources = sources;
  }

  /** The users that a source names, each once. */
  get users(): UserId[] {
    return [...new Set(this.#sources.flatMap(({ users }) => [...users.keys()]))];
  }

  /** What the sources of one name say of the users that they name. */
  policiesFrom(name: SourceName): (readonly [user: UserId, policies: readonly AuthorizationPolicy[]])[] {
    return this.#sources
      .filter((source) => source.name === name)
      .flatMap((source) => [...source.users.keys()].map((user) => [user, source.policiesOf(user)] as const));
  }

  /** Every rule that applies to `user`, in the order of the sources. Each rule names its source. */
  policyOf(user: UserId): AuthorizationPolicy {
    return joinPolicies(...this.policiesOf(user));
  }

  /** May `actor` do `action` to `target`, or without a target when undefined? `nowMs` is the wall clock's. */
  authorize(actor: UserId, action: string, target: UserId | undefined, nowMs: number): Decision {
    const theirs = target === undefined ? undefined : { user: target, rules: this.#rulesOf(target, action) };
    if (!isObservation(action))
      return decide({ user: actor, rules: this.#rulesOf(actor, action) }, theirs, nowMs);
    return theirs === undefined
      ? { allowed: false, reason: "no matching allowance on target" }
      : decideAllowances(theirs.rules, actor);
  }

  /** The same, as the sources give it. Each is the same object until an event changes it. */
  policiesOf(user: UserId): readonly AuthorizationPolicy[] {
    const known = this.#policies.get(user);
    if (known !== undefined) return known;
    const policies = this.#sources.flatMap((source) =>
      source.policiesOf(user).map((policy) => withSource(policy, source.name)),
    );
    // Actors come from outside, so only users that a source names are kept.
    if (this.#isNamed(user)) this.#policies.set(user, policies);
    return policies;
  }

  #rulesOf(user: UserId, action: string): ActionRules {
    let ofUsers = this.#rules.get(action);
    const known = ofUsers?.get(user);
    if (known !== undefined) return known;
    const rules = rulesOf(this.policiesOf(user), action);
    if (!this.#isNamed(user)) return rules;
    if (ofUsers === undefined) {
      if (this.#rules.size >= ACTIONS_KEPT_MAX) this.#rules.clear();
      ofUsers = new Map();
      this.#rules.set(action, ofUsers);
    }
    ofUsers.set(user, rules);
    return rules;
  }

  #isNamed(user: UserId): boolean {
    return this.#sources.some(({ users }) => users.has(user));
  }
}

/** `observe` and every action below it. */
export const isObservation = globMatcher("observe/**");

/** Copies with their source, by policy: the copy is the same object while the policy is. */
const stamped = new WeakMap<AuthorizationPolicy, { source: SourceName; copy: AuthorizationPolicy }>();

/** The rules of `policy`, each with `source` in place of its writer's. */
function withSource(policy: AuthorizationPolicy, source: SourceName): AuthorizationPolicy {
  const known = stamped.get(policy);
  if (known?.source === source) return known.copy;
  const stamp = <Rule extends object>(rules: readonly Rule[] | undefined) =>
    (rules ?? []).map((rule) => ({ ...rule, source }));
  const copy = {
    grants: stamp(policy.grants),
    denials: stamp(policy.denials),
    allowances: stamp(policy.allowances),
    allowance_denials: stamp(policy.allowance_denials),
  };
  stamped.set(policy, { source, copy });
  return copy;
}

/** The shorthands of an assignment. */
export type Shorthands = {
  readonly matrix_policy?:
    | {
        readonly allow_join?: boolean | undefined;
        readonly allow_invite?: boolean | undefined;
        readonly allow_room_create?: boolean | undefined;
      }
    | undefined;
  /** Localpart globs of services. */
  readonly service_visibility?: readonly string[] | undefined;
};

/** The policy that an assignment's shorthands stand for. */
export function shorthandPolicy({ matrix_policy, service_visibility }: Shorthands): AuthorizationPolicy {
  const actions = [
    ...(matrix_policy?.allow_join ? ["matrix/join"] : []),
    ...(matrix_policy?.allow_invite ? ["matrix/invite"] : []),
    ...(matrix_policy?.allow_room_create ? ["matrix/create-room"] : []),
  ];
  const targets = [...(service_visibility ?? [])];
  return {
    grants: [
      ...(actions.length > 0 ? [{ actions }] : []),
      ...(targets.length > 0 ? [{ actions: ["service/discover"], targets }] : []),
    ],
  };
}
