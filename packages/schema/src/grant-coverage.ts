/**
 * Whether an approver may give a grant: `grant/approve/<action>` for each of its actions, for the principal that receives
 * it and for each of its targets (docs/authorization.md). Patterns are compared, not values: what cannot be told from the
 * patterns counts as not covered.
 */
import type { AuthorizationPolicy, Grant } from "./authorization.ts";
import { checkGrants } from "./authorization.ts";
import { globMatches, isLiteral, userPatternMatcher } from "./glob.ts";
import type { UserId } from "./refs.ts";

const approve = (action: string): string => `grant/approve/${action}`;

/** The first action of `grant` that `approver` may not give to `principal`; undefined when it may give all of it. */
export function notGivable(
  grant: Grant,
  principal: UserId,
  approver: readonly AuthorizationPolicy[],
  nowMs: number,
): string | undefined {
  return grant.actions.find((action) => !mayGive(action, grant.targets ?? [], principal, approver, nowMs));
}

function mayGive(
  action: string,
  targets: readonly string[],
  principal: UserId,
  approver: readonly AuthorizationPolicy[],
  nowMs: number,
): boolean {
  const rules = approver.flatMap(({ grants = [] }) => grants);
  // A denial of any part denies the whole: patterns may overlap in ways that are not examined.
  const denials = approver.flatMap(({ denials = [] }) => denials);
  if (denials.some(({ actions }) => actions.some((denied) => mayOverlap(denied, action)))) return false;
  return rules.some(
    (rule) =>
      checkGrants([{ grants: [{ ...rule, actions: ["**"] }] }], "grant/approve", principal, nowMs).allowed &&
      rule.actions.some((pattern) => covers(pattern, approve(action))) &&
      targets.every((target) => (rule.targets ?? []).some((pattern) => coversUsers(pattern, target))),
  );
}

/** Whether every action that matches `narrow` matches `wide`. */
function covers(wide: string, narrow: string): boolean {
  if (wide === "**" || wide === narrow) return true;
  if (isLiteral(narrow)) return globMatches(wide, narrow);
  const below = wide.endsWith("/**") ? wide.slice(0, -3) : undefined;
  return below !== undefined && isLiteral(below) && narrow.startsWith(`${below}/`);
}

/** Whether every user that matches `narrow` matches `wide`. */
function coversUsers(wide: string, narrow: string): boolean {
  if (wide === "**:*" || wide === narrow) return true;
  if (isLiteral(narrow)) return userPatternMatcher(wide)(`@${narrow}`);
  const [wideName, wideServer] = splitPattern(wide);
  const [name, server] = splitPattern(narrow);
  return (wideServer === "*" || wideServer === server) && covers(wideName, name);
}

const splitPattern = (pattern: string): [string, string] => {
  const colon = pattern.lastIndexOf(":");
  return [pattern.slice(0, Math.max(colon, 0)), pattern.slice(colon + 1)];
};

/** Whether a denial may concern an approval of `action`: only a literal action can be told apart for sure. */
const mayOverlap = (denied: string, action: string): boolean =>
  isLiteral(action)
    ? globMatches(denied, approve(action))
    : globMatches(denied, "grant/approve") || denied.startsWith("grant/") || !isLiteral(denied);
