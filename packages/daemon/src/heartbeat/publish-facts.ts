/**
 * What a machine says of itself once: what it is, and its key. Whoever may write to the machine room may put something else
 * in their place, which counts for nobody and hides what was there. So the daemon looks now and then, and writes them again.
 */
import type { Log } from "@bureau/kit/log";
import { isRevoked, isTransient } from "@bureau/matrix/matrix-error";
import type { MatrixSession } from "@bureau/matrix/session";
import type { RoomId } from "@bureau/schema/refs";
import type { HardwareFacts } from "../hardware/machine-info.ts";
import { publishMachineInfo } from "./publish-machine-info.ts";
import { publishMachineKey } from "./publish-machine-key.ts";

export type Facts = {
  readonly session: MatrixSession;
  readonly hardware: HardwareFacts;
  /** Holds the machine's public key. */
  readonly keyFile: string;
  readonly version: string;
  readonly log: Log;
};

/** @throws when the homeserver is away or the machine is revoked; a refused event is only logged */
export async function publishFacts(facts: Facts, room: RoomId): Promise<void> {
  const { session, hardware, keyFile, version, log } = facts;
  try {
    await publishMachineInfo(session, room, session.userId, hardware, version);
    if (await publishMachineKey(session, room, session.userId, keyFile))
      log.warn("this machine's published key was missing or wrong: published again");
  } catch (error) {
    if (isTransient(error) || isRevoked(error)) throw error;
    log.warn("cannot publish what this machine is", { error });
  }
}
