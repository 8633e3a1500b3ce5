/**
 * Makes what a namespace and a fleet consist of: rooms with their aliases and power levels, the namespace's space, and
 * the built-in templates. Everything is found before it is made, so running it again changes nothing.
 */
import { canonicalJson, digestOf } from "@bureau/kit/digest";
import { BureauError } from "@bureau/kit/errors";
import { MatrixError } from "@bureau/matrix/matrix-error";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";
import {
  aliasOf,
  type FleetLocalpart,
  fleetName,
  type Localpart,
  localpartOf,
  type Namespace,
  namespaceOf,
  parseFleet,
  parseRoomAlias,
  parseRoomId,
  RefError,
  type RoomId,
  rooms,
  type ServerName,
  serverOf,
  type UserId,
} from "@bureau/schema/refs";
import * as v from "valibot";
import { builtinTemplates } from "./builtin-templates.ts";
import { powerLevels, type RoomKind } from "./room-catalogue.ts";

export type RoomWanted = {
  readonly kind: RoomKind;
  readonly localpart: Localpart;
  readonly name: string;
  readonly topic?: string;
  readonly invite?: readonly UserId[];
  readonly space?: RoomId;
};

/** The room with this alias, made when there is none. */
export async function ensureRoom(session: MatrixSession, wanted: RoomWanted): Promise<RoomId> {
  const server = serverOf(session.userId);
  const alias = aliasOf(wanted.localpart, server);
  const known = await session.resolveAlias(alias);
  if (known !== undefined) return known;
  const room = await session.createRoom({
    room_alias_name: wanted.localpart,
    name: wanted.name,
    ...(wanted.topic === undefined ? {} : { topic: wanted.topic }),
    preset: "private_chat",
    visibility: "private",
    power_level_content_override: powerLevels(wanted.kind),
    ...(wanted.kind === "space" ? { creation_content: { type: "m.space" } } : {}),
    ...(wanted.invite === undefined ? {} : { invite: wanted.invite }),
  });
  if (wanted.space !== undefined)
    await session.putState(wanted.space, "m.space.child", room, { via: [server] });
  return room;
}

export type NamespaceRooms = Readonly<
  Record<"space" | "dev" | "system" | "template" | "pipeline" | "artifact" | "lobby", RoomId>
>;

/** The rooms of a namespace (wire facts, section 2.1). */
export async function ensureNamespace(session: MatrixSession, namespace: Namespace): Promise<NamespaceRooms> {
  const title = namespace === "bureau" ? "Bureau" : namespace;
  const space = await ensureRoom(session, { kind: "space", localpart: rooms.space(namespace), name: title });
  const dev = await ensureRoom(session, {
    kind: "dev",
    localpart: rooms.dev(namespace),
    name: `${title} Development`,
    space,
  });
  const make = async (
    kind: RoomKind,
    localpart: Localpart,
    name: string,
    topic?: string,
  ): Promise<RoomId> => {
    const room = await ensureRoom(session, {
      kind,
      localpart,
      name,
      space,
      ...(topic === undefined ? {} : { topic }),
    });
    await announceDevTeam(session, room, namespace);
    return room;
  };
  const system = await make("system", rooms.system(namespace), `${title} System`);
  const template = await make("template", rooms.template(namespace), `${title} Templates`);
  const pipeline = await make("pipeline", rooms.pipeline(namespace), `${title} Pipelines`);
  const artifact = await make("artifact", rooms.artifact(namespace), `${title} Artifacts`);
  const lobby = await make("lobby", rooms.lobby(namespace), `${title} Lobby`, "Where people and agents meet");
  await announceDevTeam(session, space, namespace);
  await announceDevTeam(session, dev, namespace);
  return { space, dev, system, template, pipeline, artifact, lobby };
}

export type FleetRooms = Readonly<Record<"fleet" | "machines" | "services", RoomId>>;

/** The rooms of a fleet. The namespace must exist. */
export async function ensureFleet(session: MatrixSession, fleet: FleetLocalpart): Promise<FleetRooms> {
  const namespace = namespaceOf(fleet);
  const space = await session.resolveAlias(aliasOf(rooms.space(namespace), serverOf(session.userId)));
  if (space === undefined)
    throw new BureauError(
      "not-found",
      `Cannot make the fleet "${fleet}": the namespace "${namespace}" does not exist`,
      { hint: "make it first: bureau matrix setup" },
    );
  const short = `${namespace}/${fleetName(fleet)}`;
  const make = async (kind: RoomKind, localpart: Localpart, name: string): Promise<RoomId> => {
    const room = await ensureRoom(session, { kind, localpart, name, space });
    await announceDevTeam(session, room, namespace);
    return room;
  };
  return {
    fleet: await make("fleet", rooms.fleet(fleet), `Fleet: ${short}`),
    machines: await make("fleet-machines", rooms.fleetMachines(fleet), `Machines: ${short}`),
    services: await make("fleet-services", rooms.fleetServices(fleet), `Services: ${short}`),
  };
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

/** The fleet whose room this is, by the room's alias; undefined for every other room, and for those not ours to see. */
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

/** Says in a room which room its questions go to (wire facts, section 2.1). */
export async function announceDevTeam(
  session: MatrixSession,
  room: RoomId,
  namespace: Namespace,
): Promise<void> {
  const wanted = { room: aliasOf(rooms.dev(namespace), serverOf(session.userId)) };
  if ((await session.getState(room, eventTypes.devTeam, "")) === undefined)
    await session.putState(room, eventTypes.devTeam, "", wanted);
}

/**
 * Publishes the built-in templates. One that somebody has changed is theirs and stays: a template is ours as long as
 * its content still has the hash its origin states.
 */
export async function publishBuiltinTemplates(
  session: MatrixSession,
  namespace: Namespace,
  room: RoomId,
): Promise<string[]> {
  const published: string[] = [];
  for (const [name, template] of Object.entries(builtinTemplates(rooms.template(namespace)))) {
    // Without a URL or flake: the reference would go there for an update, and fail.
    const origin = { content_hash: digestOf(template) };
    const present = await session.getState(room, eventTypes.template, name);
    if (present !== undefined && !isOurs(present, origin)) continue;
    await session.putState(room, eventTypes.template, name, { ...template, origin });
    published.push(name);
  }
  return published;
}

/** True when `present` is an untouched built-in whose origin is another than `wanted`. */
function isOurs(present: unknown, wanted: { readonly content_hash: string }): boolean {
  if (typeof present !== "object" || present === null) return false;
  if (Object.keys(present).length === 0) return true;
  const { origin, ...content } = present as { origin?: { content_hash?: unknown } };
  return origin?.content_hash === digestOf(content) && canonicalJson(origin) !== canonicalJson(wanted);
}

/** Rooms by their places, for callers that need IDs. @throws BureauError `not-found` */
export async function roomOf(
  session: MatrixSession,
  localpart: Localpart,
  server?: ServerName,
): Promise<RoomId> {
  const alias = aliasOf(localpart, server ?? serverOf(session.userId));
  const room = await session.resolveAlias(alias);
  if (room === undefined)
    throw new BureauError("not-found", `There is no room "${alias}"`, { hint: "bureau matrix room list" });
  return room;
}

/** The room of a fleet. @throws BureauError `not-found` */
export async function roomOfFleet(session: MatrixSession, fleet: FleetLocalpart): Promise<RoomId> {
  const room = await session.resolveAlias(aliasOf(rooms.fleet(fleet), serverOf(session.userId)));
  if (room !== undefined) return room;
  throw new BureauError("not-found", `There is no fleet "${fleet}"`, { hint: "bureau fleet list" });
}
