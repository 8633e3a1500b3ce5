/** The machines of a fleet with what each runs: the list that operators see. */
import { isBureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import type { MachineVersion } from "@bureau/schema/events";
import { type FleetLocalpart, type MachineLocalpart, parseMachine } from "@bureau/schema/refs";
import { isOnline, type ListedMachine, listMachines } from "./list-machines.ts";
import { configPlace } from "./machine-config.ts";
import { readMachineVersion } from "./machine-version.ts";

export type FleetMachine = ListedMachine & {
  readonly state: "online" | "offline";
  /** Absent when the machine does not say it, or the session may not read its config room. */
  readonly version?: MachineVersion;
};

/** In the order of names. `now`: milliseconds since the epoch. @throws BureauError `not-found` for an unknown fleet */
export async function fleetMachines(
  session: MatrixSession,
  fleet: FleetLocalpart,
  now: number,
): Promise<FleetMachine[]> {
  return Promise.all(
    (await listMachines(session, fleet)).map(async (machine): Promise<FleetMachine> => {
      const version = await versionOf(session, parseMachine(machine.name));
      const state = isOnline(machine, now) ? "online" : "offline";
      return { ...machine, state, ...(version === undefined ? {} : { version }) };
    }),
  );
}

/** From its config room, which not every member of the fleet may read. */
async function versionOf(
  session: MatrixSession,
  machine: MachineLocalpart,
): Promise<MachineVersion | undefined> {
  try {
    return await readMachineVersion(session, await configPlace(session, machine));
  } catch (error) {
    if (isBureauError(error) && (error.code === "forbidden" || error.code === "not-found")) return undefined;
    throw error;
  }
}
