/**
 * What of a decision is recorded, and its content: denials of acts that were attempted, and sensitive acts that were
 * allowed. Pure. Actor, action and target may come from outside, so each has a limit.
 */

import { type AuditRecord, isSensitive } from "@bureau/schema/audit";
import type { Decision, Grant } from "@bureau/schema/authorization";
import type { UserId } from "@bureau/schema/refs";
import type { DecisionRecord } from "../authorization/authorize.ts";

const TEXT_CHARS_MAX = 512;
/** A rule beyond it is named by its source and first actions. */
const RULE_CHARS_MAX = 2_048;
const ACTIONS_SHOWN = 5;

/** Undefined for an act that is not recorded. */
export function recordOf(
  { actor, action, target, decision, point }: DecisionRecord,
  machine: UserId,
): AuditRecord | undefined {
  if (decision.allowed && !isSensitive(action)) return undefined;
  return {
    decision: decision.allowed ? "allow" : "deny",
    actor: cut(actor),
    action: cut(action),
    target: cut(target ?? ""),
    ...(decision.allowed ? {} : { reason: decision.reason }),
    enforcement_point: point,
    machine,
    ...matched("matched_grant", decision.grant),
    ...matched("matched_denial", decision.denial),
    ...matched("matched_allowance", decision.allowance),
    ...matched("matched_allowance_denial", decision.allowanceDenial),
    ...provenance(decision),
  };
}

/** Text from outside as it may enter an event: of limited length, valid Unicode, without control characters. */
export const cut = (text: string): string => {
  const clean = text.toWellFormed().replaceAll(/\p{Cc}/gu, "\u{fffd}");
  return clean.length > TEXT_CHARS_MAX ? `${clean.slice(0, TEXT_CHARS_MAX).toWellFormed()}…` : clean;
};

type Rule = { readonly actions: readonly string[]; readonly source?: string | undefined };

const matched = (field: string, rule: Rule | undefined): Readonly<Record<string, object>> =>
  rule === undefined ? {} : { [field]: ruleShown(rule) };

/** A rule as an event shows it. */
export function ruleShown(rule: Rule): Record<string, unknown> {
  const whole = JSON.stringify(rule);
  if (whole.length <= RULE_CHARS_MAX) return JSON.parse(whole) as Record<string, unknown>;
  const { actions, source } = rule;
  return {
    actions: actions.slice(0, ACTIONS_SHOWN).map(cut),
    ...(source === undefined ? {} : { source: cut(source) }),
  };
}

/** Of a temporal grant: why it was given, and until when. */
function provenance({ grant }: Decision): Pick<Grant, "ticket" | "expires_at"> {
  return {
    ...(grant?.ticket === undefined ? {} : { ticket: cut(grant.ticket) }),
    ...(grant?.expires_at === undefined ? {} : { expires_at: cut(grant.expires_at) }),
  };
}
