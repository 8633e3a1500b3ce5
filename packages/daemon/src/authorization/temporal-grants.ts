/**
 * Grants for a time (`m.bureau.temporal_grant`), in any room of the machine. Anyone may write one; it counts when its
 * sender may give it. Administrators of the config room may give everything. Others need `grant/approve/<action>` from a
 * lasting rule, so that no temporal grant makes an approver. No user approves a grant of their own. Pure.
 */
import type { StateEvent } from "@bureau/matrix/event";
import type { AuthorizationPolicy } from "@bureau/schema/authorization";
import { type TemporalGrant, TemporalGrantSchema } from "@bureau/schema/authorization-events";
import type { AuthorizationIndex, PolicySource } from "@bureau/schema/authorization-index";
import { isCleared } from "@bureau/schema/events";
import { notGivable } from "@bureau/schema/grant-coverage";
import { InputError, parse } from "@bureau/schema/parse";
import { parseUserId, type UserId } from "@bureau/schema/refs";

export type Approvals = {
  /** Of every lasting rule. */
  readonly index: AuthorizationIndex;
  readonly isAdministrator: (user: string) => boolean;
};

/** The grants that count; `fault` gets a sentence on each that does not. */
export function temporalGrants(
  events: readonly StateEvent[],
  approvals: Approvals,
  fault: (sentence: string) => void,
): PolicySource {
  const byUser = new Map<UserId, AuthorizationPolicy[]>();
  for (const event of events) {
    if (isCleared(event.content)) continue;
    const read = readGrant(event);
    const why = typeof read === "string" ? read : refusal(read, event, approvals);
    if (why !== undefined || typeof read === "string") {
      fault(`The temporal grant "${event.stateKey}" of ${event.sender} is ignored: ${why}`);
      continue;
    }
    const { principal } = read.temporal;
    byUser.set(principal, [...(byUser.get(principal) ?? []), read.policy]);
  }
  return { name: "temporal", users: byUser, policiesOf: (user) => byUser.get(user) ?? [] };
}

type Read = { readonly temporal: TemporalGrant; readonly policy: AuthorizationPolicy };

/** By event, so that a policy is the same object until the event changes. */
const byEvent = new WeakMap<StateEvent, Read | string>();

/** A sentence when the event cannot be read. */
function readGrant(event: StateEvent): Read | string {
  const known = byEvent.get(event) ?? parseGrant(event);
  byEvent.set(event, known);
  return known;
}

/** The grant's `granted_by` is the sender: what its content says of that may be anything. */
function parseGrant({ content, stateKey, sender }: StateEvent): Read | string {
  try {
    const temporal = parse(TemporalGrantSchema, content, "m.bureau.temporal_grant");
    const { grant } = temporal;
    return {
      temporal,
      policy: { grants: [{ ...grant, ticket: grant.ticket ?? stateKey, granted_by: sender }] },
    };
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
}

/** Why its sender may not give it; undefined when it may. */
function refusal(
  { temporal: { grant, principal } }: Read,
  { sender, sentAt }: StateEvent,
  { index, isAdministrator }: Approvals,
): string | undefined {
  if (sender === principal) return "its sender is the principal that it is for";
  if (isAdministrator(sender)) return undefined;
  const action = notGivable(grant, principal, index.policiesOf(parseUserId(sender)), sentAt);
  return action === undefined
    ? undefined
    : `its sender may not do "grant/approve/${action}" for ${principal} and these targets`;
}
