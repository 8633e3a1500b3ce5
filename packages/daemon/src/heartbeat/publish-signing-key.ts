/** Publishes the key that signs this machine's service tokens, which services check tokens with (wire facts, section 3.10). */
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import { type RoomId, stateKeyOf, type UserId } from "@bureau/schema/refs";
import { TokenSigningKeySchema } from "@bureau/schema/service-token";
import * as v from "valibot";

/** Returns whether it had to be written. */
export async function publishSigningKey(
  session: Pick<MatrixSession, "getState" | "putState">,
  system: RoomId,
  machine: UserId,
  publicKey: Uint8Array,
): Promise<boolean> {
  const own = { public_key: Buffer.from(publicKey).toString("hex"), machine };
  const key = stateKeyOf(machine);
  const stands = v.safeParse(
    TokenSigningKeySchema,
    await session.getState(system, eventTypes.tokenSigningKey, key),
  );
  if (stands.success && stands.output.public_key === own.public_key && stands.output.machine === machine)
    return false;
  await session.putState(system, eventTypes.tokenSigningKey, key, own);
  return true;
}
