/**
 * The daemon's parts put together. Each owns its state and knows the others only by what it is handed here.
 *
 * ```
 * homeserver ─sync─▶ room states ─▶ desired ─▶ reconciler ─▶ launcher, proxies
 *                                                  └─▶ eventMessages ─▶ config room
 * ```
 *
 * Disposing leaves every sandbox running. A machine that was revoked, or removed from its config room, destroys them all
 * first: nothing may go on in the name of a machine that is no longer one. One that was asked to leave stops them with
 * grace, says so, and ends in the same way.
 */

import { backoffOf, standardBackoff } from "@bureau/kit/backoff";
import type { Clock } from "@bureau/kit/clock";
import { BureauError, isBureauError } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { version } from "@bureau/kit/version";
import { inTime } from "@bureau/kit/wait-for";
import { isRevoked } from "@bureau/matrix/matrix-error";
import { RoomStateStore } from "@bureau/matrix/room-state";
import { MatrixSession } from "@bureau/matrix/session";
import { egressFetch } from "@bureau/os/egress";
import {
  daemonStateFile,
  launcherSocket,
  machinePublicKeyFile,
  machineSessionFile,
  observeSocket,
  specHistoryDir,
  unsentMessagesFile,
} from "@bureau/os/layout";

import { readMachineSession } from "@bureau/os/session-file";
import { inheritedSocket } from "@bureau/os/systemd";
import {
  localpartBytesMaxFor,
  type MachineLocalpart,
  type PrincipalName,
  principalLocalpart,
  type UserId,
  userIdOf,
} from "@bureau/schema/refs";
import { authorizeBy } from "./authorization/authorize.ts";
import type { DaemonConfig } from "./daemon-config.ts";
import { migrateDaemonFiles } from "./daemon-files.ts";
import { Departure } from "./departure.ts";
import { DesiredSource } from "./desired/desired-source.ts";
import { fleetCache } from "./desired/fleet-cache.ts";
import { answerCommands } from "./event-messages/answer-commands.ts";
import { type EventMessage, eventMessage } from "./event-messages/event-message.ts";
import { Outbox } from "./event-messages/outbox.ts";
import { takeUnsent } from "./event-messages/unsent.ts";
import { readHardware } from "./hardware/machine-info.ts";
import { HealthMonitor } from "./health/health-monitor.ts";
import { openHealthProbe } from "./health/health-probe.ts";
import { runHeartbeat } from "./heartbeat/heartbeat.ts";
import { publishFacts } from "./heartbeat/publish-facts.ts";
import { type Launcher, openLauncherClient } from "./launcher/launcher-client.ts";
import { openProxyAdmin } from "./launcher/proxy-admin.ts";
import { type ConnectionState, MachineConnection } from "./machine-connection.ts";
import { machineReport } from "./machine-report.ts";
import { observeActions } from "./observe/observe-actions.ts";
import { serveObserve } from "./observe/observe-server.ts";
import { createTokenVerifier } from "./observe/token-verifier.ts";
import { Invitations } from "./reconcile/invitations.ts";
import { completionFile, ReconcileState } from "./reconcile/reconcile-state.ts";
import { Reconciler } from "./reconcile/reconciler.ts";
import { historyFiles, SpecHistory } from "./reconcile/spec-history.ts";
import type { MachineRooms } from "./sync/machine-rooms.ts";
import { RoomDirectory } from "./sync/room-directory.ts";
import { SyncScope } from "./sync/sync-scope.ts";
import { become } from "./upgrade/become.ts";
import { openUpgrades } from "./upgrade/open-upgrades.ts";
import { trialBackoff, type Upgrader, type UpgraderDeps } from "./upgrade/upgrader.ts";

/** For destroying everything when the machine was revoked (wire facts, section 12.1). */
const EMERGENCY_MS_MAX = 10_000;
/** For telling the homeserver that we leave (wire facts, section 12.1). */
const PRESENCE_MS_MAX = 5_000;
/** Whoever asks a daemon that has only just started waits this long for it to know what runs, and what should. */
const FIRST_LOOK_MS_MAX = 5_000;
const FIRST_SYNC_MS_MAX = 5_000;
/** Actions under way when the daemon stops get this long; the launcher finishes them without us. */
const STOP_MS_MAX = 2_000;

export type DaemonDeps = {
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  /** This program's command line, without the program: what the next version of it is started with. */
  readonly args: readonly string[];
  /** Called with one line on the daemon's connection to the homeserver, at each change. */
  readonly onStatus?: (line: string) => void;
};

export type Daemon = AsyncDisposable & {
  /**
   * Resolves when this machine was revoked or decommissioned and its sandboxes are gone, with the reason; rejects when a
   * part failed that must not. Otherwise it stays open.
   */
  readonly revoked: Promise<Error>;
  /**
   * Resolves when the first plan is made, with a line about it; or when the homeserver turned out to be away, because
   * waiting longer would say nothing more: then with that.
   */
  readonly ready: Promise<string>;
};

/** Resolves once observe.sock answers. @throws BureauError when there is no session or its file cannot be read */
export async function startDaemon(config: DaemonConfig, deps: DaemonDeps): Promise<Daemon> {
  migrateDaemonFiles(config.layout);
  const parts = assemble(config, deps);
  const stop = new AbortController();
  const passed = inheritedSocket();
  const observe = await serveObserve({
    listen: passed ?? { path: observeSocket(config.layout), mode: 0o660 },
    actions: observeActions(parts.observe),
    log: deps.log,
  });
  const { reconciler, connection, departure, outbox } = parts;
  const socketIsOurs = passed?.isOurs ?? true;
  const unsentFile = unsentMessagesFile(config.layout);
  const upgrades = parts.openUpgrades((path, options) =>
    become(
      path,
      { ...deps, ...{ reconciler, outbox, unsentFile, observe, socketIsOurs, signal: stop.signal } },
      options,
    ),
  );
  const reconciling = reconciler.run(stop.signal);
  const roomsKnown = Promise.withResolvers<MachineRooms>();
  parts.onRooms(roomsKnown.resolve);
  const revoked = Promise.withResolvers<Error>();
  let hasFailed = false;
  const watch = (work: Promise<unknown>): Promise<unknown> =>
    work.catch(async (error: unknown) => {
      if (departure.hasAnswered) return;
      hasFailed = true;
      if (!endsMachine(error)) return revoked.reject(error);
      if (upgrades?.upgrader.isOnTrial === true) return upgrades.upgrader.doubt(error).catch(revoked.reject);
      deps.log.error("machine.revoked", "this machine was revoked; every sandbox is destroyed", { error });
      const gone = await reconciler.destroyEverything(EMERGENCY_MS_MAX);
      if (!gone)
        deps.log.error("machine.revocation-incomplete", "not every sandbox could be destroyed in time");
      revoked.resolve(error);
    });
  const loops = [
    watch(reconciling),
    watch(connection.run(stop.signal)),
    watch(roomsKnown.promise.then((rooms) => parts.runAtHomeserver(rooms, stop.signal))),
    ...(upgrades === undefined
      ? []
      : [
          watch(upgrades.upgrader.run(stop.signal)),
          watch(
            Promise.all([roomsKnown.promise, upgrades.upgrader.recalled]).then(([rooms]) =>
              upgrades.publisher.run(rooms.config, stop.signal),
            ),
          ),
        ]),
  ];
  departure.left.then(revoked.resolve);
  // Whoever holds the daemon may not be waiting yet when it ends.
  revoked.promise.catch(() => {});
  deps.log.info("daemon.ready", "daemon ready", { machine: config.machine, version });
  return {
    revoked: revoked.promise,
    ready: parts.ready,
    async [Symbol.asyncDispose]() {
      if (!hasFailed) upgrades?.upgrader.stopped();
      stop.abort();
      roomsKnown.reject(stopped);
      parts.directory[Symbol.dispose]();
      const ended = Promise.allSettled(loops);
      await Promise.all([
        parts.goOffline(),
        observe[Symbol.asyncDispose](),
        Promise.race([ended, deps.clock.sleep(STOP_MS_MAX)]),
      ]);
    },
  };
}

/** Ends what still waits for the rooms when the daemon stops. */
const stopped = new Error("the daemon stopped");

const endsMachine = (error: unknown): error is Error =>
  isRevoked(error) || (isBureauError(error) && error.code === "unauthorized");

function assemble(config: DaemonConfig, deps: DaemonDeps) {
  const { clock, log, random } = deps;
  const { layout, machine, serverName: server, fleet, statusIntervalMs: intervalMs } = config;
  const { session, userId } = openSession(config);
  const userOf = (account: PrincipalName) => userIdOf(principalLocalpart(fleet, account), server);
  const startedAt = clock.now();
  const outbox = new Outbox({ clock, log, random, ...takeUnsent(unsentMessagesFile(layout), log) });
  const notify = outbox.post.bind(outbox);
  const rooms = openRooms(session, deps, notify, () => reconciler.mark());
  const { states, scope, directory } = rooms;
  const source = new DesiredSource({
    ...{ machine, server, ...rooms, notify, log },
    localpartBytesMax: localpartBytesMaxFor(layout.runDir),
  });
  const launcher: Launcher = openLauncherClient(launcherSocket(layout));
  const departure = new Departure({
    ...{ session, clock, random, log },
    stands: ({ request }) => source.current()?.decommission?.request === request,
  });
  const status = statusLines(machine, session.homeserver);
  const invitations = new Invitations({ session, clock, log, rooms: () => known });
  /** Once there is one. */
  let upgrader: Upgrader | undefined;
  const reconciler = new Reconciler({
    ...{ launcher, notify, userOf, clock, random, log, graceMs: config.drainGraceMs },
    proxies: openProxyAdmin(layout, fleet),
    state: new ReconcileState(completionFile(daemonStateFile(layout))),
    history: new SpecHistory(historyFiles(specHistoryDir(layout)), log),
    health: new HealthMonitor({
      ...{ clock, log, probe: openHealthProbe(layout, fleet) },
      onChange: () => reconciler.mark(),
    }),
    desired: () => source.current(),
    beforeStart: (principal, sandbox) => invitations.send(principal, sandbox),
    onGone: () => upgrader?.mark(),
    onDrained: (decommission, stopped) => departure.drained(decommission, stopped),
    onRemoval: (account) => upgrader?.removes(account),
  });
  let tellRooms: (rooms: MachineRooms) => void = () => {};
  let known: MachineRooms | undefined;
  const facts = { session, version, log, hardware: readHardware(), keyFile: machinePublicKeyFile(layout) };
  const connection = new MachineConnection({
    ...{ ...facts, machine, server, states, scope, clock, random },
    backoff: backoffOf(() => (upgrader?.isOnTrial === true ? trialBackoff : standardBackoff)),
    onRooms(rooms) {
      source.setConfigRoom(rooms.config);
      known = rooms;
      tellRooms(rooms);
    },
    onChange({ left, invited }) {
      for (const room of left) directory.left(room);
      if (invited) directory.lookAgain();
      reconciler.mark();
      upgrader?.mark();
    },
    onConfigEvents: (events) => answerCommands(events, userId, notify),
    onState: (state) => deps.onStatus?.(status.of(state)),
  });
  const sandboxes = () => reconciler.view.sandboxes;
  const cache = () => fleetCache(known?.fleet === undefined ? undefined : states.room(known.fleet));
  const ready = Promise.race([
    reconciler.hasPlanned.then(() => status.inSync),
    connection.foundAway.then(status.away),
    source.foundUnconfigured.then(status.unconfigured),
  ]);
  return {
    ...{ reconciler, connection, directory, departure, outbox, ready },
    /** Undefined when this daemon runs from sources, which nothing can take the place of. */
    openUpgrades(replace: UpgraderDeps["become"]) {
      const view = () => (known === undefined ? undefined : states.room(known.config));
      const isOnline = () => connection.state.kind === "online";
      const opened = openUpgrades(config, deps, {
        ...{ session, launcher, reconciler, notify, view, isOnline, replace, cache },
        isAway: () => connection.state.kind === "disconnected",
      });
      upgrader = opened?.upgrader;
      return opened;
    },
    observe: {
      ...{ machine, launcher, machineUser: userId },
      async report() {
        await inTime(reconciler.hasLooked, FIRST_LOOK_MS_MAX);
        const now = { connection: connection.state, view: reconciler.view, fleetCache: cache() };
        return machineReport(config, userId, startedAt, { ...now, faults: source.faults });
      },
      ready: () => inTime(ready, FIRST_SYNC_MS_MAX),
      authorize: authorizeBy(() => source.latest?.authorization, clock),
      userOf,
      tokens: createTokenVerifier(session.homeserver, userId, clock),
    },
    onRooms(tell: (rooms: MachineRooms) => void) {
      tellRooms = tell;
    },
    /** Messages, heartbeats and presence, until `signal` aborts. */
    async runAtHomeserver(rooms: MachineRooms, signal: AbortSignal) {
      const room = rooms.fleetMachines;
      const beat = { session, machine: userId, room, intervalMs, sandboxes, userOf, clock, log };
      session.setPresence("online").catch(presenceFailed(log));
      await Promise.all([
        outbox.run(
          (content, txnId, by) => session.sendMessage(rooms.config, content, { txnId, signal: by }),
          signal,
        ),
        runHeartbeat({ ...beat, publishFacts: () => publishFacts(facts, room) }, signal),
      ]);
    },
    goOffline: () => goOffline(connection, session, log),
  };
}

/** The state of rooms, the sync filter, and the rooms to find. */
function openRooms(
  session: MatrixSession,
  { clock, random, log }: DaemonDeps,
  notify: (one: EventMessage) => void,
  onChange: () => void,
) {
  const states = new RoomStateStore((ignored) => notify(eventMessage.configInvalid(ignored)));
  const directory = new RoomDirectory({
    ...{ session, clock, random, log, onChange },
    isJoined: (room) => states.joinedRooms().includes(room),
  });
  return { states, directory, scope: new SyncScope() };
}

async function goOffline(connection: MachineConnection, session: MatrixSession, log: Log): Promise<void> {
  if (connection.state.kind !== "online") return;
  await session
    .setPresence("offline", { message: "shutting down", timeoutMs: PRESENCE_MS_MAX })
    .catch(presenceFailed(log));
}

const presenceFailed =
  (log: Log) =>
  (error: unknown): void =>
    log.debug("presence.failed", "cannot set presence", { error });

/** The status text that `systemctl status` shows. */
const statusLines = (machine: MachineLocalpart, homeserver: string) => ({
  inSync: `${machine}: in sync with ${homeserver}`,
  away: (reason = "") => `${machine}: the homeserver is away: ${reason}`,
  of({ kind, reason }: ConnectionState): string {
    return kind === "online" ? this.inSync : this.away(reason);
  },
  unconfigured: (fault: string) => `${machine}: in sync, without a configuration: ${fault}`,
});

/** The machine's session; the address on the command line wins over the one in the file. */
function openSession(config: DaemonConfig): { session: MatrixSession; userId: UserId } {
  const stored = readMachineSession(machineSessionFile(config.layout));
  const homeserver = config.homeserverUrl === "" ? stored.homeserver : config.homeserverUrl;
  const userId = userIdOf(config.machine, config.serverName);
  if (stored.userId !== userId)
    throw new BureauError(
      "invalid-input",
      `The session "${machineSessionFile(config.layout)}" is of ${stored.userId}, but this machine is ${userId}`,
      {
        hint: "start the launcher with the same --machine-name and --server-name, and an empty state folder",
      },
    );
  return {
    session: new MatrixSession({ homeserver, fetch: egressFetch, userId, token: stored.token }),
    userId,
  };
}
