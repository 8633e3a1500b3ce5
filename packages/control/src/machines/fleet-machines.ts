/** The machines of a fleet with what each runs: the list that operators see. */
import type { MatrixSession } from "@bureau/matrix/session";
import type { FleetLocalpart } from "@bureau/schema/refs";
import { isOnline, type ListedMachine, listMachinesNow } from "./list-machines.ts";

export type FleetMachine = ListedMachine & { readonly state: "online" | "offline" };

/** In the order of names. `now`: milliseconds since the epoch. @throws BureauError `not-found` for an unknown fleet */
export const fleetMachines = async (
  session: MatrixSession,
  fleet: FleetLocalpart,
  now: number,
): Promise<FleetMachine[]> =>
  (await listMachinesNow(session, fleet)).map((machine): FleetMachine => {
    const state = isOnline(machine, now) ? "online" : "offline";
    return { ...machine, state };
  });
