/** Why a machine does not act on a request now, in words that follow its name. */
import { type Presence, readPresence } from "@bureau/control/machines/presence";
import { withAge } from "@bureau/kit/age";
import { systemClock } from "@bureau/kit/clock";
import type { MatrixSession } from "@bureau/matrix/session";
import type { MachineLocalpart } from "@bureau/schema/refs";

/** `is offline since 2026-01-31T09:30:00Z (3 h ago)`; undefined when it is online, or its state may not be read. */
export function absenceOf(presence: Presence, now: number): string | undefined {
  switch (presence.state) {
    case "online":
    case "forbidden":
      return undefined;
    case "offline":
      return `is offline since ${withAge(presence.last_seen, now)}`;
    case "never-online":
      return "has never been online";
    case "not-joined":
      return "has not joined the fleet";
  }
}

/** `awaitsFirst`: gives a machine without any heartbeat a moment for its first one. */
export const readAbsence = async (
  session: MatrixSession,
  machine: MachineLocalpart,
  awaitsFirst = false,
): Promise<string | undefined> =>
  absenceOf(await readPresence(session, machine, { clock: systemClock, awaitsFirst }), systemClock.now());
