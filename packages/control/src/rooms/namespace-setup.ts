/**
 * Makes what a namespace and a fleet consist of: rooms with their aliases and power levels, the namespace's space, and
 * the built-in templates. Everything is found before it is made, so running it again changes nothing.
 */

import { canonicalJson } from "@bureau/kit/canonical-json";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { changePowerLevels } from "@bureau/matrix/power-levels";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, isCleared } from "@bureau/schema/events";
import {
  aliasOf,
  type FleetLocalpart,
  fleetName,
  fleetOf,
  type Localpart,
  type MachineLocalpart,
  type Namespace,
  namespaceOf,
  principalLocalpart,
  type RoomId,
  rooms,
  type ServerName,
  serverOf,
  stateKeyOf,
  type UserId,
  userIdOf,
} from "@bureau/schema/refs";
import { digestOf } from "../digest.ts";
import { builtinTemplates } from "../templates/builtin-templates.ts";
import { completeLevels, type Note, stateOfOurs } from "./found-room.ts";
import { isMember } from "./machine-rooms.ts";
import { machineLevel, powerLevels, type RoomKind } from "./room-catalogue.ts";

/** A state event that a room is made with. */
type State = { readonly type: string; readonly state_key: string; readonly content: object };

export type RoomWanted = {
  readonly kind: RoomKind;
  readonly localpart: Localpart;
  readonly name: string;
  readonly topic?: string;
  readonly invite?: readonly UserId[];
  /** Rights of members other than the administrator. */
  readonly levels?: Readonly<Record<UserId, number>>;
  readonly state?: readonly State[];
};

/**
 * The room with this alias. Creates a missing room completely with a single request, because homeservers limit the rate of
 * writes; reads an existing room once, and adds what it lacks.
 * @throws BureauError `conflict` when the alias is that of a stranger's room
 */
export async function ensureRoom(
  session: MatrixSession,
  wanted: RoomWanted,
  note: Note = () => {},
): Promise<RoomId> {
  const alias = aliasOf(wanted.localpart, serverOf(session.userId));
  const known = await session.resolveAlias(alias);
  if (known === undefined) return makeRoom(session, wanted);
  await completeRoom(session, known, wanted, note);
  return known;
}

async function makeRoom(session: MatrixSession, wanted: RoomWanted): Promise<RoomId> {
  const { kind, localpart, name, topic, invite, state, levels = {} } = wanted;
  const users = await usersOf(session, levels);
  const room = await session.createRoom({
    room_alias_name: localpart,
    name,
    preset: "private_chat",
    visibility: "private",
    ...(topic === undefined ? {} : { topic }),
    power_level_content_override: { ...powerLevels(kind), ...(users === undefined ? {} : { users }) },
    ...(kind === "space" ? { creation_content: { type: "m.space" } } : {}),
    ...(invite === undefined ? {} : { invite }),
    ...(state === undefined ? {} : { initial_state: state }),
  });
  if (users === undefined && Object.keys(levels).length > 0)
    await changePowerLevels(session, room, { users: levels }, { clock: systemClock });
  return room;
}

/**
 * Who holds what in a new room, where that is said when it is made: beside others its creator must be named, and from
 * room version 12 on must not be. Undefined where the homeserver alone names the creator, or its version is not known.
 */
async function usersOf(
  session: MatrixSession,
  levels: Readonly<Record<UserId, number>>,
): Promise<Readonly<Record<UserId, number>> | undefined> {
  if (Object.keys(levels).length === 0) return undefined;
  const version = Number.parseInt((await session.defaultRoomVersion()) ?? "", 10);
  if (Number.isNaN(version)) return undefined;
  return version >= 12 ? levels : { [session.userId]: 100, ...levels };
}

async function completeRoom(
  session: MatrixSession,
  room: RoomId,
  wanted: RoomWanted,
  note: Note,
): Promise<void> {
  const { state = [], invite = [], levels } = wanted;
  const found = { ...wanted, room };
  const present = await stateOfOurs(session, found);
  const contentOf = (type: string, key: string): Readonly<Record<string, unknown>> =>
    present.find((event) => event.type === type && event.stateKey === key)?.content ?? {};
  for (const { type, state_key, content } of state)
    if (isCleared(contentOf(type, state_key))) await session.putState(room, type, state_key, content);
  for (const user of invite) {
    const { membership } = contentOf(eventTypes.member, user);
    if (!isMember(String(membership))) await session.inviteUser(room, user);
  }
  await completeLevels(session, found, present, note, levels);
}

/** Which room a room's questions go to (wire facts, section 2.1). */
const devTeam = (namespace: Namespace, server: ServerName): State => ({
  type: eventTypes.devTeam,
  state_key: "",
  content: { room: aliasOf(rooms.dev(namespace), server) },
});

const spaceChild = (room: RoomId, server: ServerName): State => ({
  type: "m.space.child",
  state_key: room,
  content: { via: [server] },
});

export type NamespaceRooms = Readonly<
  Record<"space" | "dev" | "system" | "template" | "pipeline" | "artifact" | "lobby", RoomId>
>;

/**
 * The rooms of a namespace (wire facts, section 2.1), and the names of the built-in templates that were published. The
 * space is made last: so it is made with its rooms.
 */
export async function ensureNamespace(
  session: MatrixSession,
  namespace: Namespace,
  invite: readonly UserId[] = [],
  note?: Note,
): Promise<{ readonly rooms: NamespaceRooms; readonly published: readonly string[] }> {
  const title = namespace === "bureau" ? "Bureau" : namespace;
  const server = serverOf(session.userId);
  const team = devTeam(namespace, server);
  const make = (
    kind: RoomKind,
    localpart: Localpart,
    name: string,
    more: { readonly topic?: string; readonly state?: readonly State[] } = {},
  ): Promise<RoomId> =>
    ensureRoom(
      session,
      { kind, localpart, name, invite, ...more, state: [team, ...(more.state ?? [])] },
      note,
    );
  const templates = builtinTemplateState(namespace);
  const isNew = (await session.resolveAlias(aliasOf(rooms.template(namespace), server))) === undefined;
  const inside = {
    dev: await make("dev", rooms.dev(namespace), `${title} Development`),
    system: await make("system", rooms.system(namespace), `${title} System`),
    template: await make("template", rooms.template(namespace), `${title} Templates`, {
      state: isNew ? templates : [],
    }),
    pipeline: await make("pipeline", rooms.pipeline(namespace), `${title} Pipelines`),
    artifact: await make("artifact", rooms.artifact(namespace), `${title} Artifacts`),
    lobby: await make("lobby", rooms.lobby(namespace), `${title} Lobby`, {
      topic: "Where people and agents meet",
    }),
  };
  const children = Object.values(inside).map((room) => spaceChild(room, server));
  const space = await make("space", rooms.space(namespace), title, { state: children });
  const published = isNew
    ? templates.map(({ state_key }) => state_key)
    : await publishBuiltinTemplates(session, namespace, inside.template);
  return { rooms: { space, ...inside }, published };
}

export type FleetRooms = Readonly<Record<"fleet" | "machines" | "services", RoomId>>;

/** The rooms of a fleet. The namespace must exist. */
export async function ensureFleet(
  session: MatrixSession,
  fleet: FleetLocalpart,
  invite: readonly UserId[] = [],
  note?: Note,
): Promise<FleetRooms> {
  const namespace = namespaceOf(fleet);
  const server = serverOf(session.userId);
  if ((await session.resolveAlias(aliasOf(rooms.space(namespace), server))) === undefined)
    throw new BureauError(
      "not-found",
      `Cannot make the fleet "${fleet}": the namespace "${namespace}" does not exist`,
      { hint: "make it first: bureau matrix setup" },
    );
  const short = `${namespace}/${fleetName(fleet)}`;
  const make = (kind: RoomKind, localpart: Localpart, name: string): Promise<RoomId> =>
    ensureRoom(session, { kind, localpart, name, invite, state: [devTeam(namespace, server)] }, note);
  const made = {
    fleet: await make("fleet", rooms.fleet(fleet), `Fleet: ${short}`),
    machines: await make("fleet-machines", rooms.fleetMachines(fleet), `Machines: ${short}`),
    services: await make("fleet-services", rooms.fleetServices(fleet), `Services: ${short}`),
  };
  await ensureRoom(session, {
    kind: "space",
    localpart: rooms.space(namespace),
    name: namespace,
    state: Object.values(made).map((room) => spaceChild(room, server)),
  });
  return made;
}

/** The two rooms of a machine's own, with the machine invited to them. */
export async function ensureMachineRooms(
  session: MatrixSession,
  machine: MachineLocalpart,
  initialConfig: object,
): Promise<{ readonly config: RoomId; readonly ops: RoomId }> {
  const server = serverOf(session.userId);
  const user = userIdOf(machine, server);
  const controller = principalLocalpart(fleetOf(machine), "service/fleet");
  const binding = {
    type: eventTypes.serviceBinding,
    state_key: "fleet",
    content: { principal: userIdOf(controller, server) },
  };
  const common = [devTeam(namespaceOf(machine), server), binding];
  const make = (
    kind: RoomKind,
    localpart: Localpart,
    name: string,
    state: readonly State[],
  ): Promise<RoomId> =>
    ensureRoom(session, {
      kind,
      localpart,
      name,
      state,
      invite: [user],
      levels: { [user]: machineLevel(kind) },
    });
  const config = { type: eventTypes.machineConfig, state_key: stateKeyOf(user), content: initialConfig };
  return {
    config: await make("config", rooms.config(machine), `Config: ${machine}`, [...common, config]),
    ops: await make("ops", rooms.ops(machine), `Ops: ${machine}`, common),
  };
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
  const present = new Map(
    (await session.getRoomState(room)).flatMap(({ type, stateKey, content }) =>
      type === eventTypes.template ? [[stateKey, content] as const] : [],
    ),
  );
  const published: string[] = [];
  for (const { state_key: name, content } of builtinTemplateState(namespace)) {
    const old = present.get(name);
    if (old !== undefined && !isOurs(old, content.origin)) continue;
    await session.putState(room, eventTypes.template, name, content);
    published.push(name);
  }
  return published;
}

const builtinTemplateState = (namespace: Namespace) =>
  Object.entries(builtinTemplates(rooms.template(namespace))).map(([name, template]) => ({
    type: eventTypes.template,
    state_key: name,
    content: { ...template, origin: { content_hash: digestOf(template) } },
  }));

/** True when `present` is an untouched built-in whose origin is another than `wanted`. */
function isOurs(present: unknown, wanted: { readonly content_hash: string }): boolean {
  if (typeof present !== "object" || present === null) return false;
  if (Object.keys(present).length === 0) return true;
  const { origin, ...content } = present as { origin?: { content_hash?: unknown } };
  return origin?.content_hash === digestOf(content) && canonicalJson(origin) !== canonicalJson(wanted);
}
