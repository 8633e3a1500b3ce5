/** A fleet with one machine on an embedded homeserver, without the machine's programs. Counts the requests to it. */
import { login } from "@bureau/matrix/auth";
import type { Fetch } from "@bureau/matrix/request";
import { ServerAdmin } from "@bureau/matrix/server-admin";
import { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import {
  aliasOf,
  machineLocalpart,
  parseFleet,
  parseNamespace,
  principalLocalpart,
  type RoomAlias,
  type RoomId,
  rooms,
  serverOf,
  stateKeyOf,
} from "@bureau/schema/refs";
import { startEmbeddedHomeserver } from "@bureau/testkit/embedded-homeserver";
import { generateIdentity, identityToRecipient } from "age-encryption";
import { configPlace } from "../machines/machine-config.ts";
import { provisionMachine } from "../machines/provision.ts";
import { ensureAdministrator } from "../principals/administrator.ts";
import { type CreatePrincipal, createPrincipal } from "../principals/principals.ts";
import { ensureFleet, ensureNamespace } from "../rooms/namespace-setup.ts";

export type SmallFleet = Awaited<ReturnType<typeof startSmallFleet>>;

export type StartHomeserver = () => Promise<
  AsyncDisposable & { readonly url: string; readonly registrationToken: string }
>;

export async function startSmallFleet(start: StartHomeserver = startEmbeddedHomeserver) {
  const homeserver = await start();
  const requests: string[] = [];
  let running = 0;
  let rounds = 0;
  const counted: Fetch = async (url, init) => {
    requests.push(`${init.method} ${decodeURIComponent(url.split("/_")[1] ?? url)}`);
    if (running++ === 0) rounds++;
    try {
      return await fetch(url, init);
    } finally {
      running--;
    }
  };
  const { session, credentials } = await ensureAdministrator({
    homeserver: homeserver.url,
    fetch: counted,
    registrationToken: homeserver.registrationToken,
    store: { read: () => undefined, write: () => {} },
  });
  const fleet = parseFleet("bureau/fleet/test");
  const machine = machineLocalpart(fleet, "box");
  const namespace = parseNamespace("bureau");
  const made = await ensureNamespace(session, namespace, [], () => {});
  await ensureFleet(session, fleet, [], () => {});
  const { bootstrap } = await provisionMachine({
    session,
    registrationToken: homeserver.registrationToken,
    homeserver: homeserver.url,
    machine,
  });
  const server = { homeserver: homeserver.url, fetch: counted };
  const own = new MatrixSession({
    ...server,
    ...(await login({ ...server, user: machine, password: bootstrap.password })),
  });
  const machines = await session.resolveAlias(aliasOf(rooms.fleetMachines(fleet), serverOf(session.userId)));
  const place = await configPlace(session, machine);
  if (machines === undefined) throw new Error("no machine room");
  for (const room of [machines, place.room]) await own.joinRoom(room);
  const identity = await generateIdentity();
  await own.putState(machines, eventTypes.machineKey, stateKeyOf(own.userId), {
    algorithm: "age-x25519",
    public_key: await identityToRecipient(identity),
  });
  let turn = Promise.resolve();
  const takeTurn = async (): Promise<Disposable> => {
    const before = turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    turn = promise;
    await before;
    return { [Symbol.dispose]: resolve };
  };
  const editor = { session, takeTurn };
  const known = new Map<RoomAlias, RoomId>();
  return {
    session,
    /** The machine's own session, as its daemon has it. */
    own,
    machine,
    server: serverOf(session.userId),
    /** The machine's age identity. */
    identity,
    /** What opens the accounts that the administrator made. */
    accountKeys: { registrationToken: homeserver.registrationToken, homeserver: homeserver.url },
    place,
    editor,
    /** Every request so far: method and path. */
    requests,
    /** How often a request was made while no other one ran: requests in a row. */
    rounds: () => rounds,
    lobby: made.rooms.lobby,
    /** A request of the administrator that no session of ours makes. */
    asAdministrator: (method: "PUT" | "POST", path: string, body: object) =>
      fetch(`${homeserver.url}${path}`, {
        method,
        headers: { authorization: `Bearer ${credentials.adminToken}` },
        body: JSON.stringify(body),
      }),
    principal: (name: string) => principalLocalpart(fleet, `agent/${name}`),
    /** As a daemon does at its start: which build it runs, and how many pages it reads. */
    announce: (pages: number | undefined) =>
      own.putState(place.room, eventTypes.machineVersion, stateKeyOf(own.userId), {
        host_environment_path: "/build",
        version: "1",
        programs: {},
        state: "running",
        history: [],
        ...(pages === undefined ? {} : { config_pages: pages }),
      }),
    /** The aliases that creations remember. */
    known,
    create: (name: string, more: Partial<CreatePrincipal> = {}) =>
      createPrincipal({
        ...editor,
        registrationToken: credentials.registrationToken,
        homeserver: homeserver.url,
        admin: new ServerAdmin({ homeserver: homeserver.url, fetch: counted, token: credentials.adminToken }),
        machine,
        principal: principalLocalpart(fleet, `agent/${name}`),
        joins: [aliasOf(rooms.lobby(namespace), serverOf(session.userId))],
        memory: {
          recall: (alias) => known.get(alias),
          keep: (found) => {
            for (const [alias, room] of found) known.set(alias, room);
          },
        },
        assignment: { template: "bureau/template:agent", auto_start: true },
        ...more,
      }),
    [Symbol.asyncDispose]: () => homeserver[Symbol.asyncDispose](),
  };
}
