/** The machines of a fleet as its machine room shows them. */

import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, MachineInfoSchema, MachineKeySchema, MachineStatusSchema } from "@bureau/schema/events";
import { type FleetLocalpart, localpartOf, rooms, userOfStateKey } from "@bureau/schema/refs";
import * as v from "valibot";
import { roomOf } from "./namespace-setup.ts";

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
  /** RFC 3339: when its last heartbeat was written. */
  readonly last_seen?: string;
};

/** A machine has joined when it has published a key that is not cleared. */
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
            }
          : {}),
        ...(beat === undefined ? {} : { last_seen: new Date(beat.sentAt).toISOString() }),
      },
    ];
  });
  return machines.sort((a, b) => (a.name < b.name ? -1 : 1));
}
