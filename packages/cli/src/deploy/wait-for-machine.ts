/** A machine's first heartbeat after a deploy. */
import { findMachine, type ListedMachine } from "@bureau/control/machines/list-machines";
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import type { MachineLocalpart } from "@bureau/schema/refs";

/** A heartbeat is written when the daemon starts, then at least every 30 s; allows for one lost heartbeat, and 15 s of a slow homeserver. */
export const HEARTBEAT_MS_MAX = 75_000;
const ASK_AGAIN_MS = 1_000;

/**
 * Waits for a heartbeat that is not the one of `before`. Stamps are compared with each other only, since this host's
 * clock need not agree with the homeserver's. @throws BureauError `timeout`
 */
export async function waitForHeartbeat(options: {
  readonly session: MatrixSession;
  readonly machine: MachineLocalpart;
  readonly before: string | undefined;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly update: (text: string) => void;
}): Promise<ListedMachine> {
  const { session, machine, before, clock, signal, update } = options;
  const deadline = clock.monotonic() + HEARTBEAT_MS_MAX;
  for (;;) {
    const found = await findMachine(session, machine);
    if (found?.last_seen !== undefined && (before === undefined || found.last_seen > before)) return found;
    const missing = found === undefined ? "its key" : "its heartbeat";
    if (signal.aborted) throw new BureauError("failed", `Waiting for ${missing} was interrupted`);
    if (clock.monotonic() > deadline)
      throw new BureauError(
        "timeout",
        `"${machine}" did not publish ${missing} within ${HEARTBEAT_MS_MAX / 1000} s`,
      );
    update(`waiting for ${missing}`);
    await clock.sleep(ASK_AGAIN_MS, signal);
  }
}
