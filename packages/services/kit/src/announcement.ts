/**
 * The entry of a service in its fleet's service room (`m.bureau.service`), which others find it by. It is written once
 * the service listens, and emptied when the service stops.
 */
import { BureauError } from "@bureau/kit/errors";
import { MatrixError } from "@bureau/matrix/matrix-error";
import { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, type Service } from "@bureau/schema/events";
import { serviceSocketName } from "@bureau/schema/inside-paths";
import { type RoomId, stateKeyOf } from "@bureau/schema/refs";
import type { ServiceIdentity } from "./service-identity.ts";

/** Wire facts, section 6.7. */
const WITHDRAW_MS_MAX = 5_000;

export type Offer = {
  readonly description: string;
  /** Words that others choose a service by. */
  readonly capabilities: readonly string[];
};

/** @throws MatrixError; BureauError `forbidden` when the principal is not in the room */
export async function announce(
  session: MatrixSession,
  room: RoomId,
  { machine }: Pick<ServiceIdentity, "machine">,
  { description, capabilities }: Offer,
): Promise<void> {
  const entry = {
    principal: session.userId,
    machine,
    capabilities: [...capabilities],
    endpoints: { cbor: serviceSocketName },
    description,
  } satisfies Service;
  try {
    await session.putState(room, eventTypes.service, stateKeyOf(session.userId), entry);
  } catch (error) {
    if (!(error instanceof MatrixError && error.code === "forbidden")) throw error;
    throw new BureauError("forbidden", error.message, {
      hint: "the service must be a member of its fleet's service room; its proxy accepts invitations when it starts",
    });
  }
}

/** By a session of its own: the service's ends with the service. @throws MatrixError */
export async function withdraw(session: MatrixSession, room: RoomId): Promise<void> {
  const last = new MatrixSession({
    ...session.server,
    userId: session.userId,
    token: undefined,
    signal: AbortSignal.timeout(WITHDRAW_MS_MAX),
  });
  const entry = { principal: "", machine: "", endpoints: {} };
  await last.putState(room, eventTypes.service, stateKeyOf(session.userId), entry);
}
