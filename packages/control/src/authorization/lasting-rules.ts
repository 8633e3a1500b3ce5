/** Rules without an end, in the assignment of a principal: what it may do, and what others may do to it. */
import { BureauError } from "@bureau/kit/errors";
import type { Allowance, AuthorizationPolicy, Grant } from "@bureau/schema/authorization";
import type { PrincipalAssignment } from "@bureau/schema/events";
import type { UserId } from "@bureau/schema/refs";
import { type Editor, turnIsHeld } from "../editor.ts";
import type { ConfigPlace } from "../machines/config-parts.ts";
import { editAssignment, readAssignments } from "../machines/machine-config.ts";

/** Adds a grant, unless the same one is there. @throws BureauError `not-found` when the machine does not run `principal` */
export const addGrant = async (
  editor: Editor,
  place: ConfigPlace,
  principal: UserId,
  grant: Grant,
): Promise<boolean> =>
  required(
    await editPolicy(editor, place, principal, (policy) => ({
      ...policy,
      grants: withRule(policy.grants, grant),
    })),
    principal,
  );

/** Adds an allowance, unless the same one is there. @throws BureauError `not-found` when the machine does not run `principal` */
export const addAllowance = async (
  editor: Editor,
  place: ConfigPlace,
  principal: UserId,
  allowance: Allowance,
): Promise<boolean> =>
  required(
    await editPolicy(editor, place, principal, (policy) => ({
      ...policy,
      allowances: withRule(policy.allowances, allowance),
    })),
    principal,
  );

/** Takes the actions out of every grant and allowance, as they are written there; a rule without actions goes. */
export const removeActions = async (
  editor: Editor,
  place: ConfigPlace,
  principal: UserId,
  actions: readonly string[],
): Promise<boolean> => {
  const without = <Rule extends { readonly actions: string[] }>(rules: readonly Rule[] = []): Rule[] =>
    rules
      .map((rule) => ({ ...rule, actions: rule.actions.filter((action) => !actions.includes(action)) }))
      .filter((rule, at) => rule.actions.length > 0 || rules[at]?.actions.length === 0);
  const changed = await editPolicy(editor, place, principal, (policy) => ({
    ...policy,
    ...(policy.grants === undefined ? {} : { grants: without(policy.grants) }),
    ...(policy.allowances === undefined ? {} : { allowances: without(policy.allowances) }),
  }));
  return changed === true;
};

const withRule = <Rule extends object>(rules: Rule[] = [], rule: Rule): Rule[] =>
  rules.some((one) => JSON.stringify(one) === JSON.stringify(rule)) ? rules : [...rules, rule];

/** Whether anything changed; undefined when the machine does not run the principal. */
async function editPolicy(
  { session, takeTurn }: Editor,
  place: ConfigPlace,
  principal: UserId,
  change: (policy: AuthorizationPolicy) => AuthorizationPolicy,
): Promise<boolean | undefined> {
  using _turn = await takeTurn();
  const { assignments } = await readAssignments(session, place);
  const before = assignments.find((one) => one.principal === principal);
  if (before === undefined) return undefined;
  const policy = before.authorization ?? {};
  const authorization = change(policy);
  if (JSON.stringify(authorization) === JSON.stringify(policy)) return false;
  const after: PrincipalAssignment = { ...before, authorization };
  await editAssignment({ session, takeTurn: turnIsHeld }, place, principal, after);
  return true;
}

const required = (changed: boolean | undefined, principal: UserId): boolean => {
  if (changed === undefined) throw notHere(principal);
  return changed;
};

const notHere = (principal: UserId): BureauError =>
  new BureauError("not-found", `The machine does not run ${principal}: only principals have lasting rules`, {
    hint: "bureau agent list shows the principals; --for 1h grants to any user for a time",
  });
