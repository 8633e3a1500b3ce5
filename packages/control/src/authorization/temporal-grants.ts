/**
 * Grants for a time, as state events in a machine's config room, one for each ticket (wire facts, section 3.9). The daemon
 * obeys them at its next sync, and stops at their end without another event.
 */
import { type Clock, timestamp } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { StateEvent } from "@bureau/matrix/event";
import type { MatrixSession } from "@bureau/matrix/session";
import { expiryOf } from "@bureau/schema/authorization";
import { type TemporalGrant, TemporalGrantSchema } from "@bureau/schema/authorization-events";
import { eventTypes, isCleared } from "@bureau/schema/events";
import type { RoomId, UserId } from "@bureau/schema/refs";
import { safeParse } from "valibot";
import { randomHex } from "../digest.ts";
import type { Editor } from "../editor.ts";
import { stateOfTypes } from "../rooms/state-of-types.ts";

/** Ended grants that one command clears. */
const CLEARED_MAX = 50;

export type TicketGrant = TemporalGrant & { readonly ticket: string; readonly sender: string };

/** Grants that have not been revoked; those that ended are among them until a command clears them. */
export async function listTemporalGrants(session: MatrixSession, room: RoomId): Promise<TicketGrant[]> {
  const events = await stateOfTypes(session, room, [eventTypes.temporalGrant]);
  return events.flatMap(({ stateKey, sender, content }: StateEvent) => {
    const parsed = safeParse(TemporalGrantSchema, content);
    return isCleared(content) || !parsed.success ? [] : [{ ...parsed.output, ticket: stateKey, sender }];
  });
}

export const hasEnded = ({ grant }: TemporalGrant, nowMs: number): boolean => expiryOf(grant) <= nowMs;

export type GrantRequest = {
  readonly principal: UserId;
  readonly actions: readonly string[];
  /** User patterns; none for acts on oneself. */
  readonly targets: readonly string[];
  readonly forMs: number;
  /** Undefined: a new one. */
  readonly ticket: string | undefined;
};

/**
 * Grants, or renews a grant of the same principal and ticket. Clears grants that have ended.
 * @throws BureauError `conflict` when another principal holds the ticket
 */
export async function grantForTime(
  { session, takeTurn }: Editor,
  room: RoomId,
  { principal, actions, targets, forMs, ticket = `grant-${randomHex(4)}` }: GrantRequest,
  clock: Clock,
): Promise<TicketGrant> {
  using _turn = await takeTurn();
  const nowMs = clock.now();
  const present = await listTemporalGrants(session, room);
  const holder = present.find((one) => one.ticket === ticket && !hasEnded(one, nowMs));
  if (holder !== undefined && holder.principal !== principal)
    throw new BureauError("conflict", `The ticket "${ticket}" is held by ${holder.principal}`, {
      hint: `bureau auth revoke --ticket ${ticket}, or give another --ticket`,
    });
  const grant = {
    actions: [...actions],
    ...(targets.length === 0 ? {} : { targets: [...targets] }),
    expires_at: new Date(nowMs + forMs).toISOString(),
    ticket,
    granted_by: session.userId,
    granted_at: timestamp(clock),
  };
  await session.putState(room, eventTypes.temporalGrant, ticket, { grant, principal });
  const ended = present.filter((one) => one.ticket !== ticket && hasEnded(one, nowMs));
  await clear(session, room, ended.slice(0, CLEARED_MAX));
  return { grant, principal, ticket, sender: session.userId };
}

/** Clears the grants that `matches`; returns them. */
export async function revokeTemporalGrants(
  { session, takeTurn }: Editor,
  room: RoomId,
  matches: (grant: TicketGrant) => boolean,
): Promise<TicketGrant[]> {
  using _turn = await takeTurn();
  const revoked = (await listTemporalGrants(session, room)).filter(matches);
  await clear(session, room, revoked);
  return revoked;
}

async function clear(session: MatrixSession, room: RoomId, grants: readonly TicketGrant[]): Promise<void> {
  for (const { ticket } of grants) await session.putState(room, eventTypes.temporalGrant, ticket, {});
}
