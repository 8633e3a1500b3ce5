/**
 * The launcher publishes the machine's key once, when it joins. Who may write to the machine room may put another in its
 * place. No reader accepts that one, and no credential can be sealed for this machine: so the daemon restores its own.
 */
import type { MatrixSession } from "@bureau/matrix/session";
import { readIfPresent } from "@bureau/os/durable-file";
import { eventTypes, MachineKeySchema } from "@bureau/schema/events";
import { type RoomId, stateKeyOf, type UserId } from "@bureau/schema/refs";
import * as v from "valibot";

/** `file` holds the public key. Returns whether it had to be written. */
export async function publishMachineKey(
  session: Pick<MatrixSession, "getState" | "putState">,
  room: RoomId,
  machine: UserId,
  file: string,
): Promise<boolean> {
  const own = v.safeParse(MachineKeySchema, {
    algorithm: "age-x25519",
    public_key: readIfPresent(file)?.trim(),
  });
  if (!own.success) return false;
  const key = stateKeyOf(machine);
  const stands = v.safeParse(MachineKeySchema, await session.getState(room, eventTypes.machineKey, key));
  if (stands.success && stands.output.public_key === own.output.public_key) return false;
  await session.putState(room, eventTypes.machineKey, key, own.output);
  return true;
}
