/**
 * The embedded homeserver: wires store, accounts, rooms and sync behind one HTTP listener. It speaks the part of the
 * Matrix Client-Server API that Bureau and ordinary clients need; it does not federate and stores no media.
 */
import type { Clock } from "@bureau/kit/clock";
import type { Log } from "@bureau/kit/log";
import type { Secret } from "@bureau/kit/secret";
import { Accounts } from "./auth/accounts.ts";
import { InteractiveAuth } from "./auth/interactive-auth.ts";
import { Sessions } from "./auth/sessions.ts";
import { accountEndpoints } from "./http/endpoints/account.ts";
import { adminEndpoints } from "./http/endpoints/admin.ts";
import { deviceEndpoints } from "./http/endpoints/devices.ts";
import { directoryEndpoints } from "./http/endpoints/directory.ts";
import { keyEndpoints } from "./http/endpoints/keys.ts";
import { loginEndpoints } from "./http/endpoints/login.ts";
import { profileEndpoints } from "./http/endpoints/profile.ts";
import { pushEndpoints } from "./http/endpoints/push.ts";
import { registerEndpoints } from "./http/endpoints/register.ts";
import { relationEndpoints } from "./http/endpoints/relations.ts";
import { roomEventEndpoints } from "./http/endpoints/room-events.ts";
import { roomStateEndpoints } from "./http/endpoints/room-state.ts";
import { roomEndpoints } from "./http/endpoints/rooms.ts";
import { spaceEndpoints } from "./http/endpoints/spaces.ts";
import { syncEndpoints } from "./http/endpoints/sync.ts";
import { userDataEndpoints } from "./http/endpoints/user-data.ts";
import { versionEndpoints } from "./http/endpoints/versions.ts";
import { type HttpServer, type ServerAddress, startHttpServer } from "./http/http-server.ts";
import { RateLimits } from "./http/rate-limits.ts";
import { type Route, Router } from "./http/router.ts";
import { Aliases } from "./rooms/aliases.ts";
import { createEventFormatter } from "./rooms/client-event.ts";
import { pruneHeartbeats } from "./rooms/heartbeat-pruning.ts";
import { RoomActions } from "./rooms/room-actions.ts";
import type { RoomEvent } from "./rooms/room-event.ts";
import { RoomRegistry } from "./rooms/room-registry.ts";
import { RoomWriter } from "./rooms/room-writer.ts";
import { createAccountStore } from "./store/account-store.ts";
import { type HomeserverDatabase, openDatabase } from "./store/database.ts";
import { createDeviceStore } from "./store/device-store.ts";
import { createEventStore } from "./store/event-store.ts";
import { createRoomStore } from "./store/room-store.ts";
import { createUserDataStore } from "./store/user-data-store.ts";
import { Ephemeral } from "./sync/ephemeral.ts";
import { Notifier } from "./sync/notifier.ts";
import { SyncService } from "./sync/sync-service.ts";
import { UserData } from "./sync/user-data.ts";

export type HomeserverConfig = {
  /** Folder of the database. Created with mode 0700 when missing. */
  readonly dataDir: string;
  /** The part of user IDs after the colon. */
  readonly serverName: string;
  /** The first must be free at once. The server waits for the others, so that a port in use does not stop the clients of the socket. */
  readonly listen: readonly [ServerAddress, ...ServerAddress[]];
  /** Registration needs this token. */
  readonly registrationToken: Secret;
};

export type HomeserverDeps = { readonly log: Log; readonly clock: Clock };

export type Homeserver = AsyncDisposable & {
  /** Of the first address: `http://127.0.0.1:PORT`, or `unix:/path`. */
  readonly url: string;
  /** Of the first address; 0 on a unix socket. */
  readonly port: number;
};

/** Opens the database and starts listening. Disposing answers long polls, drains requests and closes the database. */
export async function startHomeserver(config: HomeserverConfig, deps: HomeserverDeps): Promise<Homeserver> {
  const db = openDatabase(config.dataDir);
  try {
    const parts = createParts(config, deps, db);
    const servers: HttpServer[] = [];
    const forClients = (): string | undefined => servers.find(({ port }) => port > 0)?.url;
    const router = new Router(routesOf(parts, forClients));
    const limits = new RateLimits(deps.clock);
    const http = { router, sessions: parts.sessions, limits, log: deps.log };
    const [first, ...others] = config.listen;
    const server = await startHttpServer(first, http);
    servers.push(server);
    deps.log.info("homeserver.listening", "homeserver listening", {
      url: server.url,
      serverName: config.serverName,
    });
    const stop = new AbortController();
    const pruning = keepPruned(parts, deps.log, stop.signal);
    const opening = others.map(async (address) => {
      const opened = await openWhenFree(address, http, deps.clock, stop.signal);
      if (opened !== undefined) servers.push(opened);
    });
    return {
      url: server.url,
      port: server.port,
      async [Symbol.asyncDispose]() {
        stop.abort();
        await Promise.all([...opening, pruning]);
        parts.notifier.close();
        await Promise.all(servers.map((each) => each.stop()));
        parts.ephemeral.close();
        db.close();
      },
    };
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Milliseconds between two attempts to bind an address that is in use. */
const LISTEN_RETRY_MS = 1_000;

/** Undefined when the homeserver stops before the address is free. */
async function openWhenFree(
  address: ServerAddress,
  http: Parameters<typeof startHttpServer>[1],
  clock: Clock,
  stop: AbortSignal,
): Promise<HttpServer | undefined> {
  for (let isFirst = true; !stop.aborted; isFirst = false) {
    try {
      const server = await startHttpServer(address, http);
      http.log.info("homeserver.listening", "homeserver listening", { url: server.url });
      return server;
    } catch (error) {
      if (isFirst)
        http.log.error("homeserver.listen-failed", "cannot listen; trying again", { address, error });
      await clock.sleep(LISTEN_RETRY_MS, stop).catch(() => {});
    }
  }
  return undefined;
}

type Parts = ReturnType<typeof createParts>;

const PRUNE_EVERY_MS = 600_000;

/** Deletes replaced heartbeats at intervals until `signal` aborts. */
async function keepPruned(parts: Parts, log: Log, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await parts.clock.sleep(PRUNE_EVERY_MS, signal);
    try {
      await pruneHeartbeats(parts, signal);
    } catch (error) {
      log.warn("store.prune-failed", "cannot delete replaced heartbeats; trying again later", { error });
    }
  }
}

function createParts(config: HomeserverConfig, deps: HomeserverDeps, db: HomeserverDatabase) {
  const { clock } = deps;
  const { serverName, registrationToken } = config;
  const store = createAccountStore(db);
  const events = createEventStore(db);
  const rooms = createRoomStore(db);
  const devices = createDeviceStore(db);
  const sessions = new Sessions(db, store, clock);
  const registry = new RoomRegistry(db, events, rooms);
  const accounts = new Accounts({ db, clock, store, sessions, serverName, registrationToken });
  const position = (): number => db.position;
  const notifier = new Notifier({
    position,
    joinedRooms: (userId) => registry.joinedRooms(userId),
    listChangedAt: devices.listChangedAt,
  });
  const ephemeral = new Ephemeral(clock, (roomId) => notifier.wakeForEphemeral(roomId, "m.typing"));
  const onEvent = (event: RoomEvent): void => notifier.wakeForEvent(event);
  const writer = new RoomWriter({ db, clock, events, rooms, registry, onEvent });
  const aliases = new Aliases({ db, rooms, registry, writer, accounts, serverName });
  const actions = new RoomActions({ db, clock, rooms, registry, writer, accounts });
  const userData = new UserData(db, createUserDataStore(db), notifier, clock);
  const format = createEventFormatter(events, clock);
  const interactive = new InteractiveAuth(clock);
  sessions.onEnded((userId, deviceId) => {
    const listChanged = devices.deleteDevice(userId, deviceId);
    notifier.wake(userId, deviceId);
    if (listChanged) notifier.wakeForDeviceList(userId);
  });
  const service = new SyncService({
    db,
    clock,
    events,
    devices,
    registry,
    sessions,
    format,
    notifier,
    ephemeral,
    userData,
  });
  return {
    db,
    clock,
    store,
    events,
    rooms,
    devices,
    sessions,
    registry,
    accounts,
    ephemeral,
    writer,
    aliases,
    actions,
    userData,
    format,
    interactive,
    notifier,
    service,
    position,
  };
}

function routesOf(parts: Parts, baseUrl: () => string | undefined): Route[] {
  return [
    ...versionEndpoints({ baseUrl }),
    ...registerEndpoints(parts),
    ...loginEndpoints(parts),
    ...accountEndpoints(parts),
    ...deviceEndpoints(parts),
    ...profileEndpoints(parts),
    ...roomEndpoints(parts),
    ...roomStateEndpoints(parts),
    ...roomEventEndpoints(parts),
    ...relationEndpoints(parts),
    ...spaceEndpoints(parts),
    ...directoryEndpoints(parts),
    ...syncEndpoints({ store: parts.userData.store, service: parts.service }),
    ...userDataEndpoints(parts),
    ...pushEndpoints(parts),
    ...keyEndpoints(parts),
    ...adminEndpoints(parts),
  ];
}
