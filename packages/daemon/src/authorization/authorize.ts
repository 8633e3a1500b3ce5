/**
 * The one place that decides what a person or agent may do to a principal of this machine. Observation asks the target's
 * side only (wire facts, section 3.9): its allowances and the machine's default ones. Nothing known, nothing allowed.
 */
import { checkAllowances, type Decision } from "@bureau/schema/authorization";
import type { PrincipalName, UserId } from "@bureau/schema/refs";
import type { Desired } from "../desired/desired.ts";

/** May `actor` do `action` to `target`? A principal that is not assigned here has the machine's default policy only. */
export function authorize(
  desired: Desired | undefined,
  actor: UserId,
  action: "observe" | "observe/read-write",
  target: PrincipalName,
): Decision {
  if (desired === undefined) return { allowed: false, reason: "no matching allowance on target" };
  const policy = desired.principals.get(target)?.policy ?? desired.defaultPolicy;
  return checkAllowances(policy, action, actor);
}
