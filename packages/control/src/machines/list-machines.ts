/** The machines of a fleet as its machine room shows them, and whether each is online. */
import type { MatrixSession } from "@bureau/matrix/session";
import {
  eventTypes,
  MachineInfoSchema,
  MachineKeySchema,
  type MachineStatus,
  MachineStatusSchema,
} from "@bureau/schema/events";
import {
  type FleetLocalpart,
  fleetOf,
  localpartOf,
  type MachineLocalpart,
  rooms,
  userOfStateKey,
} from "@bureau/schema/refs";
import * as v from "valibot";
import { roomOf } from "../rooms/places.ts";

export type ListedMachine = {
  /** Full localpart. */
  readonly name: string;
  readonly user_id: string;
  readonly public_key: string;
  readonly hostname?: string;
  readonly cpu_model?: string;
  readonly memory_mb?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly daemon_version?: string;
  readonly cpu_percent?: number;
  readonly memory_used_mb?: number;
  readonly sandboxes?: number;
  /** The running agents by user ID, from the last heartbeat; absent when that does not list them. */
  readonly principals?: MachineStatus["principals"];
  /** RFC 3339: when its last heartbeat was written. */
  readonly last_seen?: string;
};

/** A heartbeat comes every 30 s or more often; five in a row may be lost, and clocks may differ by half a minute. */
const HEARTBEAT_FRESH_MS = 210_000;

/** Whether a machine's last heartbeat is recent. `now`: milliseconds since the epoch. */
export const isOnline = ({ last_seen }: Pick<ListedMachine, "last_seen">, now: number): boolean =>
  last_seen !== undefined && now - Date.parse(last_seen) < HEARTBEAT_FRESH_MS;

/**
 * Undefined when the machine has no key in the fleet's machine room: it has not joined, or has left. A machine with a key
 * may still lack its session.
 */
export const findMachine = async (
  session: MatrixSession,
  machine: MachineLocalpart,
): Promise<ListedMachine | undefined> =>
  (await listMachines(session, fleetOf(machine))).find(({ name }) => name === machine);

/** A heartbeat without sandboxes has no list; other implementations may never write one. */
const runningThere = ({ principals, sandboxes }: MachineStatus): Pick<ListedMachine, "principals"> =>
  principals === undefined && sandboxes.running > 0 ? {} : { principals: principals ?? {} };

/** The machines that have joined, by name: those with a key that is not cleared. @throws BureauError `not-found` for an unknown fleet */
export async function listMachines(session: MatrixSession, fleet: FleetLocalpart): Promise<ListedMachine[]> {
  const state = await session.getRoomState(await roomOf(session, rooms.fleetMachines(fleet)));
  const of = (type: string, key: string) =>
    state.find((event) => event.type === type && event.stateKey === key);
  const machines = state.flatMap((event): ListedMachine[] => {
    if (event.type !== eventTypes.machineKey) return [];
    const key = v.safeParse(MachineKeySchema, event.content);
    if (!key.success) return [];
    const user = userOfStateKey(event.stateKey);
    const info = v.safeParse(MachineInfoSchema, of(eventTypes.machineInfo, event.stateKey)?.content);
    const beat = of(eventTypes.machineStatus, event.stateKey);
    const status = v.safeParse(MachineStatusSchema, beat?.content);
    return [
      {
        name: localpartOf(user),
        user_id: user,
        public_key: key.output.public_key,
        ...(info.success
          ? {
              hostname: info.output.hostname,
              cpu_model: info.output.cpu.model,
              memory_mb: info.output.memory_total_mb,
              labels: info.output.labels ?? {},
              daemon_version: info.output.daemon_version,
            }
          : {}),
        ...(status.success
          ? {
              cpu_percent: status.output.cpu_percent,
              memory_used_mb: status.output.memory_used_mb,
              sandboxes: status.output.sandboxes.running,
              ...runningThere(status.output),
            }
          : {}),
        ...(beat === undefined ? {} : { last_seen: new Date(beat.sentAt).toISOString() }),
      },
    ];
  });
  return machines.sort((a, b) => (a.name < b.name ? -1 : 1));
}
