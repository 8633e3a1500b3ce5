/**
 * Gives a machine its place in a fleet before it is there: an account with a one-time password, a config and an ops
 * room, invitations to the rooms it works in. Effects and their order are the wire's (section 10.3), except that the
 * bootstrap file is written before the account is made, so that an interruption never leaves an account whose password
 * nobody knows.
 */
import { randomBytes } from "node:crypto";
import { systemClock } from "@bureau/kit/clock";
import { readIfPresent, writeDurably } from "@bureau/kit/durable-file";
import { BureauError } from "@bureau/kit/errors";
import { registerWithToken } from "@bureau/matrix/auth";
import { changePowerLevels } from "@bureau/matrix/power-levels";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import { parseJson } from "@bureau/schema/parse";
import {
  fleetOf,
  type Localpart,
  localpartOf,
  type MachineLocalpart,
  namespaceOf,
  principalLocalpart,
  type RoomId,
  rooms,
  serverOf,
  stateKeyOf,
  type UserId,
  userIdOf,
} from "@bureau/schema/refs";
import * as v from "valibot";
import { announceDevTeam, ensureRoom, roomOf } from "./namespace-setup.ts";
import { machineLevel, type RoomKind } from "./room-catalogue.ts";

const BootstrapSchema = v.object({ password: v.pipe(v.string(), v.minLength(1)) });

export type ProvisionOptions = {
  readonly session: MatrixSession;
  readonly registrationToken: string;
  readonly homeserver: string;
  readonly machine: MachineLocalpart;
  /** Written 0600. An existing one is used, so that an interrupted provisioning goes on. */
  readonly bootstrapFile: string;
};

/** @throws BureauError `conflict` when the machine has an account already and no bootstrap file is at hand */
export async function provisionMachine(options: ProvisionOptions): Promise<void> {
  const { session, machine } = options;
  const server = serverOf(session.userId);
  const user = userIdOf(machine, server);
  const resumed = readIfPresent(options.bootstrapFile) !== undefined;
  if (!resumed) writeBootstrap(options, server);
  const { password } = parseJson(
    BootstrapSchema,
    readIfPresent(options.bootstrapFile) ?? "",
    options.bootstrapFile,
  );
  const registered = await registerWithToken({
    homeserver: options.homeserver,
    username: machine,
    password,
    registrationToken: options.registrationToken,
  });
  if (registered.inUse && !resumed)
    throw new BureauError("conflict", `Cannot provision "${machine}": the machine has an account already`, {
      hint: "choose another machine name",
    });
  await makeMachineRooms(session, machine, user);
  for (const [kind, localpart] of workRooms(machine))
    await admit(session, await roomOf(session, localpart), kind, user);
}

/** The rooms a machine works in besides its own, with the power it holds there. */
function workRooms(machine: MachineLocalpart): [RoomKind, Localpart][] {
  const fleet = fleetOf(machine);
  const namespace = namespaceOf(machine);
  return [
    ["template", rooms.template(namespace)],
    ["pipeline", rooms.pipeline(namespace)],
    ["system", rooms.system(namespace)],
    ["fleet-machines", rooms.fleetMachines(fleet)],
    ["fleet-services", rooms.fleetServices(fleet)],
    ["fleet", rooms.fleet(fleet)],
  ];
}

function writeBootstrap(options: ProvisionOptions, server: string): void {
  const bootstrap = {
    homeserver_url: options.homeserver,
    server_name: server,
    machine_name: options.machine,
    password: randomBytes(32).toString("hex"),
    fleet_prefix: fleetOf(options.machine),
  };
  writeDurably(options.bootstrapFile, `${JSON.stringify(bootstrap, null, 2)}\n`, 0o600);
}

async function makeMachineRooms(
  session: MatrixSession,
  machine: MachineLocalpart,
  user: UserId,
): Promise<void> {
  const namespace = namespaceOf(machine);
  const own: [RoomKind, Localpart, string][] = [
    ["config", rooms.config(machine), `Config: ${machine}`],
    ["ops", rooms.ops(machine), `Ops: ${machine}`],
  ];
  for (const [kind, localpart, name] of own) {
    const room = await ensureRoom(session, { kind, localpart, name });
    await admit(session, room, kind, user);
    await announceDevTeam(session, room, namespace);
    if ((await session.getState(room, eventTypes.serviceBinding, "fleet")) === undefined) {
      const controller = userIdOf(
        principalLocalpart(fleetOf(machine), "service/fleet"),
        serverOf(session.userId),
      );
      await session.putState(room, eventTypes.serviceBinding, "fleet", { principal: controller });
    }
    if (kind === "config") await initialConfig(session, room, user);
  }
}

/** An empty desired state whose baseline lets the administrator watch what runs there. */
async function initialConfig(session: MatrixSession, room: RoomId, user: UserId): Promise<void> {
  const key = stateKeyOf(user);
  if ((await session.getState(room, eventTypes.machineConfig, key)) !== undefined) return;
  const admin = `${localpartOf(session.userId)}:${serverOf(session.userId)}`;
  await session.putState(room, eventTypes.machineConfig, key, {
    principals: [],
    default_policy: { allowances: [{ actions: ["observe/**"], actors: [admin] }] },
  });
}

/** Invites a user who is not there yet, and gives it the power its kind of room has for machines. */
async function admit(session: MatrixSession, room: RoomId, kind: RoomKind, user: UserId): Promise<void> {
  await inviteUnlessThere(session, room, user);
  const level = machineLevel(kind);
  if (level > 0) await changePowerLevels(session, room, { users: { [user]: level } }, { clock: systemClock });
}

/** Invites unless the user has joined or is invited already. */
export async function inviteUnlessThere(session: MatrixSession, room: RoomId, user: UserId): Promise<void> {
  const member = await session.getState(room, eventTypes.member, user);
  const membership =
    typeof member === "object" && member !== null && "membership" in member ? member.membership : "";
  if (membership !== "join" && membership !== "invite") await session.inviteUser(room, user);
}
