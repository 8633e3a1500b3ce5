/** The rooms every machine is in: found and joined at start (wire facts, section 9.14). */
import { BureauError } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { isRevoked, isTransient, MatrixError } from "@bureau/matrix/matrix-error";
import type { MatrixSession } from "@bureau/matrix/session";
import {
  aliasOf,
  fleetOf,
  type Localpart,
  type MachineLocalpart,
  namespaceOf,
  type RoomId,
  rooms,
  type ServerName,
} from "@bureau/schema/refs";

export type MachineRooms = {
  /** What this machine should run, and where it tells what it did. */
  readonly config: RoomId;
  /** Facts and heartbeats of all machines of the fleet. */
  readonly fleetMachines: RoomId;
  /** What holds for the whole fleet; undefined while this machine cannot join it. */
  readonly fleet?: RoomId;
  /** Rooms of the namespace and of the fleet's services; undefined while this machine cannot join them. */
  readonly system?: RoomId;
  readonly fleetServices?: RoomId;
};

type Session = Pick<MatrixSession, "resolveAlias" | "joinRoom" | "joinedRooms">;

/**
 * Joins those it is not in yet: homeservers limit how often one joins, also a room that one is in. The rooms this daemon needs must exist; a missing other room is logged.
 * @throws BureauError `unauthorized` when the machine is not let into its own config room: it was removed
 */
export async function joinMachineRooms(
  session: Session,
  machine: MachineLocalpart,
  server: ServerName,
  log: Log,
  signal: AbortSignal,
): Promise<MachineRooms> {
  const fleet = fleetOf(machine);
  const joined = new Set(await session.joinedRooms(signal));
  const join = async (localpart: Localpart): Promise<RoomId> => {
    const room = await find(session, localpart, server, signal);
    return joined.has(room) ? room : await session.joinRoom(room, signal);
  };
  const config = await join(rooms.config(machine)).catch((error: unknown) => {
    if (error instanceof MatrixError && error.code === "forbidden")
      throw new BureauError("unauthorized", `This machine is not let into its config room: it was removed`, {
        cause: error,
        hint: "provision the machine again, or invite it to the room",
      });
    throw error;
  });
  const fleetMachines = await join(rooms.fleetMachines(fleet));
  const joinIfPossible = (localpart: Localpart): Promise<RoomId | undefined> =>
    join(localpart).catch((error: unknown) => {
      if (isTransient(error) || isRevoked(error)) throw error;
      log.warn("room.join-failed", "cannot join a room of the fleet; continuing without it", {
        room: aliasOf(localpart, server),
        error,
      });
      return undefined;
    });
  const system = await joinIfPossible(rooms.system(namespaceOf(fleet)));
  const fleetRoom = await joinIfPossible(rooms.fleet(fleet));
  const fleetServices = await joinIfPossible(rooms.fleetServices(fleet));
  return {
    config,
    fleetMachines,
    ...(fleetRoom === undefined ? {} : { fleet: fleetRoom }),
    ...(system === undefined ? {} : { system }),
    ...(fleetServices === undefined ? {} : { fleetServices }),
  };
}

async function find(
  session: Session,
  localpart: Localpart,
  server: ServerName,
  signal: AbortSignal,
): Promise<RoomId> {
  const alias = aliasOf(localpart, server);
  const room = await session.resolveAlias(alias, signal);
  if (room === undefined)
    throw new BureauError("not-found", `There is no room ${alias}`, {
      hint: "has this machine been provisioned? bureau machine provision",
    });
  return room;
}
