/**
 * The rooms with a known place, by their aliases. The error for a missing one names its kind (a namespace, a fleet, a
 * machine) and the existing ones.
 */
import { BureauError } from "@bureau/kit/errors";
import { instead } from "@bureau/kit/nearest";
import { MatrixError } from "@bureau/matrix/matrix-error";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, isCleared } from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";
import {
  aliasOf,
  type FleetLocalpart,
  fleetOf,
  type Localpart,
  localpartOf,
  type MachineLocalpart,
  type Namespace,
  parseFleet,
  parseMachine,
  parseNamespace,
  parseRoomAlias,
  parseRoomId,
  RefError,
  type RoomId,
  rooms,
  type ServerName,
  serverOf,
  userOfStateKey,
} from "@bureau/schema/refs";
import * as v from "valibot";
import { unlessForbidden } from "./unless-forbidden.ts";

/** The ID of the room with this alias. @throws BureauError `not-found` that names what is missing: namespace, fleet or machine */
export async function roomOf(
  session: MatrixSession,
  localpart: Localpart,
  server?: ServerName,
): Promise<RoomId> {
  const alias = aliasOf(localpart, server ?? serverOf(session.userId));
  const room = await session.resolveAlias(alias);
  if (room !== undefined) return room;
  // The namespaces and fleets of another server are unknown here.
  const isOurs = server === undefined || server === serverOf(session.userId);
  throw (isOurs ? await missingPlace(session, localpart) : undefined) ?? noRoom(alias);
}

/** The room of a fleet. @throws BureauError `not-found` */
export const roomOfFleet = (session: MatrixSession, fleet: FleetLocalpart): Promise<RoomId> =>
  roomOf(session, rooms.fleet(fleet));

export const noRoom = (alias: string): BureauError =>
  new BureauError("not-found", `There is no room "${alias}"`, { hint: "bureau matrix room list" });

/** The rooms of a namespace itself. */
const ownRooms = { system: 1, template: 1, pipeline: 1, artifact: 1, dev: 1, lobby: 1 };

/** `bureau`, `bureau/…`, `bureau/fleet/prod…`, `bureau/fleet/prod/machine/gpu…`: the first of them that is missing. */
async function missingPlace(session: MatrixSession, localpart: Localpart): Promise<BureauError | undefined> {
  const [ns = "", word, name, kind, machine] = localpart.split("/");
  const namespace = parseNamespace(ns);
  const exists = async (place: Localpart): Promise<boolean> =>
    (await session.resolveAlias(aliasOf(place, serverOf(session.userId)))) !== undefined;
  const isPlace = word === undefined || word === "fleet" || word in ownRooms;
  if (!isPlace) return undefined;
  if (!(await exists(rooms.space(namespace)))) return missingNamespace(session, namespace);
  if (word !== "fleet" || name === undefined) return undefined;
  const fleet = parseFleet(`${namespace}/fleet/${name}`);
  if (!(await exists(rooms.fleet(fleet)))) return await missingFleet(session, fleet);
  if (kind !== "machine" || machine === undefined) return undefined;
  return await missingMachine(session, parseMachine(localpart.replace(/\/ops$/, "")));
}

const missingNamespace = (session: MatrixSession, namespace: Namespace): BureauError =>
  new BureauError("not-found", `There is no namespace "${namespace}" on ${serverOf(session.userId)}`, {
    hint: `is it the right homeserver (bureau whoami)? bureau matrix setup --namespace ${namespace} makes one`,
  });

async function missingFleet(session: MatrixSession, fleet: FleetLocalpart): Promise<BureauError> {
  const known = (await unlessForbidden(listFleets(session, parseNamespace(fleet.split("/")[0] ?? "")))) ?? [];
  return new BureauError("not-found", `There is no fleet "${fleet}" on ${serverOf(session.userId)}`, {
    hint: instead(
      fleet,
      known.map((one) => one.fleet),
      { are: "fleets", list: "bureau fleet list", none: `bureau fleet create ${fleet}` },
    ),
  });
}

async function missingMachine(session: MatrixSession, machine: MachineLocalpart): Promise<BureauError> {
  const fleet = fleetOf(machine);
  const known = (await unlessForbidden(machineNames(session, fleet))) ?? [];
  return new BureauError("not-found", `There is no machine "${machine}" in the fleet`, {
    hint: instead(machine, known, {
      are: "machines",
      list: `bureau machine list ${fleet}`,
      none: `bureau machine provision ${machine}`,
    }),
  });
}

/** Machines with a key in the fleet's machine room. */
async function machineNames(session: MatrixSession, fleet: FleetLocalpart): Promise<string[]> {
  const room = await session.resolveAlias(aliasOf(rooms.fleetMachines(fleet), serverOf(session.userId)));
  if (room === undefined) return [];
  return (await session.getRoomState(room)).flatMap(({ type, stateKey, content }) =>
    type === eventTypes.machineKey && !isCleared(content) ? [localpartOf(userOfStateKey(stateKey))] : [],
  );
}

/** The fleets of a namespace, by its space's rooms. */
export async function listFleets(
  session: MatrixSession,
  namespace: Namespace,
): Promise<{ readonly fleet: FleetLocalpart; readonly room: RoomId }[]> {
  const space = await roomOf(session, rooms.space(namespace));
  const children = (await session.getRoomState(space)).filter(
    ({ type, content }) => type === "m.space.child" && Object.keys(content).length > 0,
  );
  const found = await Promise.all(
    children.map(async ({ stateKey }) => {
      const fleet = await fleetOfRoom(session, stateKey);
      return fleet === undefined ? [] : [{ fleet, room: parseRoomId(stateKey) }];
    }),
  );
  return found.flat().sort((a, b) => (a.fleet < b.fleet ? -1 : 1));
}

/** The fleet whose room this is, by the room's alias; undefined for every other room, and for rooms that we may not read. */
async function fleetOfRoom(session: MatrixSession, room: string): Promise<FleetLocalpart | undefined> {
  try {
    const content = await session.getState(parseRoomId(room), "m.room.canonical_alias", "");
    const { alias } = parse(v.object({ alias: v.string() }), content, "canonical alias");
    return parseFleet(localpartOf(parseRoomAlias(alias)));
  } catch (error) {
    const isOther = error instanceof RefError || error instanceof InputError;
    if (isOther || (error instanceof MatrixError && error.code === "forbidden")) return undefined;
    throw error;
  }
}
