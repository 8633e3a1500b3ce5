/** The commands that would allow a denied act: what to type, or which event to change. */
import { shellLine } from "@bureau/kit/shell-words";
import { checkGrants, decideAllowances, rulesOf } from "@bureau/schema/authorization";
import { isObservation } from "@bureau/schema/authorization-index";
import type { AuthorizationReply } from "@bureau/schema/observe-wire";
import type { MachineLocalpart, UserId } from "@bureau/schema/refs";
import { asTypedUser } from "../command/typed-users.ts";

export type Act = {
  /** Names of its fleet are written short. */
  readonly machine: MachineLocalpart;
  readonly actor: UserId;
  readonly action: string;
  readonly target: UserId | undefined;
};

/** How long the suggested grant lasts: the person who types it may change that. */
const SUGGESTED = "1h";

/** Everything that is missing, at once: after the first command alone, the act may still be denied. */
export function fixesFor(
  { machine, actor, action, target }: Act,
  reply: AuthorizationReply,
  nowMs: number,
): string[] {
  const grants = { grants: reply.actor_grants ?? [], denials: reply.actor_denials ?? [] };
  const allowances = {
    allowances: reply.target_allowances ?? [],
    allowance_denials: reply.target_allowance_denials ?? [],
  };
  const fixes: string[] = [];
  if (!isObservation(action)) {
    const granted = checkGrants([grants], action, target, nowMs);
    if (!granted.allowed && granted.reason !== "explicit denial")
      fixes.push(
        shellLine([
          ...["bureau", "auth", "grant", asTypedUser(machine, actor), action],
          ...(target === undefined ? [] : ["--target", asTypedUser(machine, target)]),
          ...["--for", SUGGESTED],
        ]),
      );
    const denied = checkGrants(
      [{ ...grants, grants: [{ actions: ["**"], targets: ["**:*"] }] }],
      action,
      target,
      nowMs,
    );
    if (denied.denial !== undefined)
      fixes.push(removal("denials", denied.denial.source, asTypedUser(machine, actor)));
  }
  if (target === undefined) return fixes;
  const allowed = decideAllowances(rulesOf([allowances], action), actor);
  if (!allowed.allowed && allowed.reason === "no matching allowance on target")
    fixes.push(
      shellLine([
        ...["bureau", "auth", "allow", asTypedUser(machine, target), action],
        ...["--actor", asTypedUser(machine, actor)],
      ]),
    );
  const everyone = { actions: ["**"], actors: ["**:*"] };
  const denied = decideAllowances(rulesOf([{ ...allowances, allowances: [everyone] }], action), actor);
  if (denied.allowanceDenial !== undefined)
    fixes.push(removal("allowance_denials", denied.allowanceDenial.source, asTypedUser(machine, target)));
  return fixes;
}

/** No grant outweighs a denial: it must go. */
function removal(list: string, source: string | undefined, user: string): string {
  const places: Readonly<Record<string, string>> = {
    "machine-default": "default_policy of the machine's m.bureau.machine_config",
    template: `authorization of the m.bureau.template of ${user}`,
    principal: `authorization of the entry of ${user} in the machine's m.bureau.machine_config`,
  };
  return `remove the rule from ${list} in ${places[source ?? "principal"] ?? source}`;
}
