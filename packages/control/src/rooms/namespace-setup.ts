/**
 * Makes the rooms of namespaces, fleets and machines with their aliases and power levels, the namespace's space, and the
 * built-in templates. Everything is looked up before it is made, so that a second run changes nothing.
 */
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
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
import { builtinTemplateState, publishBuiltinTemplates } from "../templates/publish-builtin-templates.ts";
import { ensureRoom, type RoomState } from "./ensure-room.ts";
import type { Note } from "./found-room.ts";
import { operatorGrants } from "./operator-policy.ts";
import { machineLevel, type RoomKind } from "./room-catalogue.ts";

/** The room for questions about a room (wire facts, section 2.1). */
const devTeam = (namespace: Namespace, server: ServerName): RoomState => ({
  type: eventTypes.devTeam,
  state_key: "",
  content: { room: aliasOf(rooms.dev(namespace), server) },
});

const spaceChild = (room: RoomId, server: ServerName): RoomState => ({
  type: "m.space.child",
  state_key: room,
  content: { via: [server] },
});

export type NamespaceRooms = Readonly<
  Record<"space" | "dev" | "system" | "template" | "pipeline" | "artifact" | "lobby", RoomId>
>;

/**
 * Makes the rooms of a namespace (wire facts, section 2.1). Returns them, and the names of the built-in templates that were
 * published. The space is made last, with all of its rooms.
 * @throws BureauError `conflict` when an alias is that of a stranger's room
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
    more: { readonly topic?: string; readonly state?: readonly RoomState[] } = {},
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

/** Makes the rooms of a fleet. @throws BureauError `not-found` when the namespace does not exist, `conflict` as {@link ensureRoom} */
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

/** Makes the config and ops room of a machine, and invites the machine to them. */
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
    state: readonly RoomState[],
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
    config: await make("config", rooms.config(machine), `Config: ${machine}`, [
      ...common,
      config,
      { type: eventTypes.authorization, state_key: "", content: operatorGrants },
    ]),
    ops: await make("ops", rooms.ops(machine), `Ops: ${machine}`, common),
  };
}
