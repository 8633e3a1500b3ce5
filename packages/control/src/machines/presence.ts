/** Whether a machine of a fleet acts on requests now, as its last heartbeat shows. */
import type { Clock } from "@bureau/kit/clock";
import { isBureauError } from "@bureau/kit/errors";
import { waitFor } from "@bureau/kit/wait-for";
import type { MatrixSession } from "@bureau/matrix/session";
import type { MachineLocalpart } from "@bureau/schema/refs";
import { findMachine, isOnline, type ListedMachine } from "./list-machines.ts";

export type Presence =
  | { readonly state: "online" }
  /** `last_seen`: RFC 3339, when its last heartbeat was written. */
  | { readonly state: "offline"; readonly last_seen: string }
  /** It has joined and never wrote a heartbeat. */
  | { readonly state: "never-online" }
  | { readonly state: "not-joined" }
  /** The session may not read the fleet's machine room. */
  | { readonly state: "forbidden" };

/** A machine as the session may see it; undefined when it has not joined. */
export type SeenMachine = ListedMachine | "forbidden" | undefined;

/** {@link findMachine} for a session that may not read the fleet's machine room. */
export async function seenMachine(session: MatrixSession, machine: MachineLocalpart): Promise<SeenMachine> {
  try {
    return await findMachine(session, machine);
  } catch (error) {
    if (isBureauError(error) && error.code === "forbidden") return "forbidden";
    throw error;
  }
}

/** `now`: milliseconds since the epoch. */
export function presenceOf(machine: SeenMachine, now: number): Presence {
  if (machine === "forbidden") return { state: "forbidden" };
  if (machine === undefined) return { state: "not-joined" };
  if (machine.last_seen === undefined) return { state: "never-online" };
  return isOnline(machine, now) ? { state: "online" } : { state: "offline", last_seen: machine.last_seen };
}

/** The daemon of a machine that has just joined writes its first heartbeat when it starts. */
const FIRST_HEARTBEAT_MS_MAX = 5_000;

/** `awaitsFirst`: waits a moment for the first heartbeat of a machine that has none. */
export async function readPresence(
  session: MatrixSession,
  machine: MachineLocalpart,
  { clock, awaitsFirst = false }: { readonly clock: Clock; readonly awaitsFirst?: boolean },
): Promise<Presence> {
  const hasHeartbeat = async (): Promise<SeenMachine> => {
    const found = await seenMachine(session, machine);
    return found === "forbidden" || found?.last_seen !== undefined ? found : undefined;
  };
  const timeoutMs = awaitsFirst ? FIRST_HEARTBEAT_MS_MAX : 0;
  const found = (await waitFor(hasHeartbeat, { timeoutMs, clock })) ?? (await seenMachine(session, machine));
  return presenceOf(found, clock.now());
}
