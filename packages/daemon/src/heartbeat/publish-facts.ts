/**
 * Publishes a machine's facts and its key. A user who may write to the machine room may replace these events. The
 * replacement does not count for readers, but hides the original. So the daemon checks them regularly and writes them again.
 */
import type { Log } from "@bureau/kit/log";
import { isRevoked, isTransient } from "@bureau/matrix/matrix-error";
import type { MatrixSession } from "@bureau/matrix/session";
import type { RoomId } from "@bureau/schema/refs";
import type { HardwareFacts } from "../hardware/machine-info.ts";
import { publishMachineInfo } from "./publish-machine-info.ts";
import { publishMachineKey } from "./publish-machine-key.ts";
import { publishSigningKey } from "./publish-signing-key.ts";

export type Facts = {
  readonly session: MatrixSession;
  readonly hardware: HardwareFacts;
  /** Holds the machine's public key. */
  readonly keyFile: string;
  /** Of the key that signs service tokens. */
  readonly signingKey: Uint8Array;
  readonly version: string;
  readonly log: Log;
};

/** @throws when the homeserver is away or the machine is revoked; a refused event is only logged */
export async function publishFacts(
  facts: Facts,
  { fleetMachines, system }: { readonly fleetMachines: RoomId; readonly system?: RoomId },
): Promise<void> {
  const { session, hardware, keyFile, signingKey, version, log } = facts;
  const machine = session.userId;
  try {
    await publishMachineInfo(session, fleetMachines, machine, hardware, version);
    if (await publishMachineKey(session, fleetMachines, machine, keyFile))
      log.warn(
        "machine.key-republished",
        "this machine's published key was missing or wrong: published again",
      );
    if (system !== undefined && (await publishSigningKey(session, system, machine, signingKey)))
      log.info("machine.signing-key-published", "published the key that signs service tokens");
  } catch (error) {
    if (isTransient(error) || isRevoked(error)) throw error;
    log.warn("machine.info-failed", "cannot publish what this machine is", { error });
  }
}
