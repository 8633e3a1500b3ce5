/**
 * The machines of a fleet, as its machine room and their own rooms show them, and whether each is online.
 *
 * A machine writes its heartbeat in its config room, and a copy in the machine room at longer intervals. Earlier builds
 * write it in the machine room only. The newer of the two counts. A session that may not read the config rooms
 * has only the copies.
 */
import type { StateEvent } from "@bureau/matrix/event";
import type { MatrixSession } from "@bureau/matrix/session";
import type { ChainHead } from "@bureau/schema/audit";
import {
  eventTypes,
  MachineInfoSchema,
  MachineKeySchema,
  type MachineStatus,
  MachineStatusSchema,
  type MachineVersion,
  MachineVersionSchema,
} from "@bureau/schema/events";
import {
  aliasOf,
  type FleetLocalpart,
  fleetOf,
  localpartOf,
  type MachineLocalpart,
  rooms,
  serverOf,
  stateKeyOf,
  type UserId,
  userIdOf,
  userOfStateKey,
} from "@bureau/schema/refs";
import * as v from "valibot";
import { roomOf } from "../rooms/places.ts";
import { unlessForbidden } from "../rooms/unless-forbidden.ts";
import { type OwnReport, ownReports } from "./own-reports.ts";

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
  /** How many more run there than the list has room for. */
  readonly principals_omitted?: number;
  /** RFC 3339: when its last heartbeat was written. */
  readonly last_seen?: string;
  /** When the next one is due, in seconds after the last; absent: 30. */
  readonly heartbeat_interval_seconds?: number;
  /** The last audit event that its heartbeat names. */
  readonly audit_head?: ChainHead;
  /** Absent when the machine does not report it, or the session may not read its config room. */
  readonly version?: MachineVersion;
};

const HEARTBEAT_SECONDS = 30;
/** Five heartbeats in a row may be lost, and clocks may differ by half a minute. */
const LATE_MS_MAX = 180_000;

/** Whether a machine's last heartbeat is recent. `now`: milliseconds since the epoch. */
export function isOnline(
  machine: Pick<ListedMachine, "last_seen" | "heartbeat_interval_seconds">,
  now: number,
): boolean {
  const { last_seen, heartbeat_interval_seconds: due = HEARTBEAT_SECONDS } = machine;
  return last_seen !== undefined && now - Date.parse(last_seen) < due * 1_000 + LATE_MS_MAX;
}

/**
 * Undefined when the machine has no key in the fleet's machine room: it has not joined, or has left. A machine with a key
 * may still lack its session. Reads a few events, however large the fleet is.
 */
export async function findMachine(
  session: MatrixSession,
  machine: MachineLocalpart,
): Promise<ListedMachine | undefined> {
  const server = serverOf(session.userId);
  const user = userIdOf(machine, server);
  const key = stateKeyOf(user);
  const [shared, config] = await Promise.all([
    roomOf(session, rooms.fleetMachines(fleetOf(machine))),
    session.resolveAlias(aliasOf(rooms.config(machine), server)),
  ]);
  const read = async (room: typeof shared, type: string): Promise<StateEvent | undefined> => {
    const event = await session.stateEvent(room, type, key);
    return event !== undefined && (await session.counts(room, event)) ? event : undefined;
  };
  const own = async (type: string): Promise<StateEvent | undefined> =>
    config === undefined ? undefined : await unlessForbidden(read(config, type));
  const [published, info, copy, beat, version] = await Promise.all([
    read(shared, eventTypes.machineKey),
    read(shared, eventTypes.machineInfo),
    read(shared, eventTypes.machineStatus),
    own(eventTypes.machineStatus),
    own(eventTypes.machineVersion),
  ]);
  return published && listed(user, published, { info, copy, own: { beat, version } });
}

/** A heartbeat without sandboxes has no list; other implementations may never write one. */
const runningThere = ({ principals, sandboxes }: MachineStatus): Pick<ListedMachine, "principals"> =>
  principals === undefined && sandboxes.running > 0 ? {} : { principals: principals ?? {} };

/**
 * The machines that have joined, by name: those with a key that is not cleared. Heartbeats are those of the machine room.
 * Two requests. @throws BureauError `not-found` for an unknown fleet
 */
export const listMachines = async (session: MatrixSession, fleet: FleetLocalpart): Promise<ListedMachine[]> =>
  machinesIn(await session.getRoomState(await roomOf(session, rooms.fleetMachines(fleet))), new Map());

/** The same with the last heartbeat and the version of each, from its own room. Three requests. */
export async function listMachinesNow(
  session: MatrixSession,
  fleet: FleetLocalpart,
): Promise<ListedMachine[]> {
  const room = await roomOf(session, rooms.fleetMachines(fleet));
  const [state, reports] = await Promise.all([session.getRoomState(room), ownReports(session, room)]);
  return machinesIn(state, reports);
}

function machinesIn(state: readonly StateEvent[], reports: ReadonlyMap<string, OwnReport>): ListedMachine[] {
  const ofType = (type: string): ReadonlyMap<string, StateEvent> =>
    new Map(state.flatMap((event) => (event.type === type ? [[event.stateKey, event] as const] : [])));
  const infos = ofType(eventTypes.machineInfo);
  const copies = ofType(eventTypes.machineStatus);
  return [...ofType(eventTypes.machineKey)]
    .flatMap(([key, published]) => {
      const known = { info: infos.get(key), copy: copies.get(key), own: reports.get(key) ?? {} };
      return listed(userOfStateKey(key), published, known) ?? [];
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

type Known = {
  readonly info: StateEvent | undefined;
  /** Its heartbeat in the machine room. */
  readonly copy: StateEvent | undefined;
  readonly own: OwnReport;
};

/** Undefined when the key is cleared or malformed. */
function listed(user: UserId, published: StateEvent, { info, copy, own }: Known): ListedMachine | undefined {
  const key = v.safeParse(MachineKeySchema, published.content);
  if (!key.success) return undefined;
  const facts = v.safeParse(MachineInfoSchema, info?.content);
  const version = v.safeParse(MachineVersionSchema, own.version?.content);
  return {
    name: localpartOf(user),
    user_id: user,
    public_key: key.output.public_key,
    ...(facts.success
      ? {
          hostname: facts.output.hostname,
          cpu_model: facts.output.cpu.model,
          memory_mb: facts.output.memory_total_mb,
          labels: facts.output.labels ?? {},
          daemon_version: facts.output.daemon_version,
        }
      : {}),
    ...heartbeatIn(lastOf(own.beat, copy)),
    ...(version.success ? { version: version.output } : {}),
  };
}

/** A copy of the same heartbeat is written last, and names a longer time until the next. */
function lastOf(own: StateEvent | undefined, copy: StateEvent | undefined): StateEvent | undefined {
  if (own === undefined || copy === undefined) return own ?? copy;
  const isCopyOfIt = own.content["uptime_seconds"] === copy.content["uptime_seconds"];
  return isCopyOfIt || own.sentAt >= copy.sentAt ? own : copy;
}

function heartbeatIn(beat: StateEvent | undefined): Partial<ListedMachine> {
  if (beat === undefined) return {};
  const last_seen = new Date(beat.sentAt).toISOString();
  const status = v.safeParse(MachineStatusSchema, beat.content);
  if (!status.success) return { last_seen };
  const { cpu_percent, memory_used_mb, sandboxes, principals_omitted: omitted = 0 } = status.output;
  const { heartbeat_interval_seconds: due, audit_head } = status.output;
  return {
    cpu_percent,
    memory_used_mb,
    sandboxes: sandboxes.running,
    ...runningThere(status.output),
    ...(omitted > 0 ? { principals_omitted: omitted } : {}),
    last_seen,
    ...(due === undefined ? {} : { heartbeat_interval_seconds: due }),
    ...(audit_head === undefined ? {} : { audit_head }),
  };
}
