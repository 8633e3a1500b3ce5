/** Seals credentials by age: to the key of the machine that uses them, and to escrow keys, which open them without it. */
import { BureauError, messageOf } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, MachineKeySchema } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import { type MachineLocalpart, type RoomId, serverOf, stateKeyOf, userIdOf } from "@bureau/schema/refs";
import { Encrypter } from "age-encryption";

/** The public key that the machine published in `room`. @throws BureauError `not-found` when it has none */
export async function machineRecipient(
  session: MatrixSession,
  machine: MachineLocalpart,
  room: RoomId,
): Promise<string> {
  const user = userIdOf(machine, serverOf(session.userId));
  const content = await session.getState(room, eventTypes.machineKey, stateKeyOf(user));
  if (content === undefined)
    throw new BureauError("not-found", `The machine "${machine}" has no key yet: it has never been online`, {
      hint: "bureau machine list",
    });
  return parse(MachineKeySchema, content, `key of machine "${machine}"`).public_key;
}

/** An encrypter for these recipients. @throws BureauError `invalid-input` for an invalid recipient */
function encrypterFor(machine: string, escrow: readonly string[]): Encrypter {
  const encrypter = new Encrypter();
  encrypter.addRecipient(machine);
  for (const recipient of escrow)
    try {
      encrypter.addRecipient(recipient);
    } catch (error) {
      // A mistyped identity must not be shown.
      const shown = recipient.startsWith("age1") ? ` "${recipient.slice(0, 80)}"` : "";
      const reason = shown === "" ? "it does not begin with age1" : messageOf(error);
      throw new BureauError("invalid-input", `Cannot seal to the escrow key${shown}: ${reason}`, {
        hint: "--escrow-key takes a public key: age1… or age1pq1…, from age-keygen",
      });
    }
  return encrypter;
}

/** Standard base64 of an age file; stock `age` opens it. */
export async function seal(
  values: Readonly<Record<string, string>>,
  machine: string,
  escrow: readonly string[],
): Promise<string> {
  return (await encrypterFor(machine, escrow).encrypt(JSON.stringify(values))).toBase64();
}
