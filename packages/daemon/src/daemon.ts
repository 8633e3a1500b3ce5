/**
 * The daemon's subsystems, in the order in which they start. Each owns its state and is given only what it names; changes
 * travel through one hub.
 *
 * ```
 * homeserver ─sync─▶ rooms ─▶ desired ─▶ reconcile ─▶ launcher, proxies
 *                                            └─▶ messages ─▶ config room
 * ```
 *
 * Disposing leaves every sandbox running. A machine that was revoked, or removed from its config room, destroys them all
 * first (`machine-end.ts`). A machine that was asked to leave stops them with grace, reports it, and ends in the same way.
 */
import type { Runtime } from "@bureau/kit/runtime";
import { version } from "@bureau/kit/version";
import { socketNames } from "@bureau/os/layout";
import { inheritedStreams } from "@bureau/os/streams";
import { inheritedSockets } from "@bureau/os/systemd";
import { principalLocalpart, userIdOf } from "@bureau/schema/refs";
import { ChangeHub } from "./assembly/change-hub.ts";
import { RunningSubsystems } from "./assembly/start-subsystems.ts";
import type { DaemonContext } from "./assembly/subsystem.ts";
import type { DaemonConfig } from "./daemon-config.ts";
import { migrateDaemonFiles } from "./daemon-files.ts";
import { MachineEnd } from "./machine-end.ts";
import { openMachineSession } from "./machine-session.ts";
import { audit } from "./subsystems/audit.ts";
import { authorization } from "./subsystems/authorization.ts";
import { connection } from "./subsystems/connection.ts";
import { departure } from "./subsystems/departure.ts";
import { desired } from "./subsystems/desired.ts";
import { facts } from "./subsystems/facts.ts";
import { health } from "./subsystems/health.ts";
import { heartbeat } from "./subsystems/heartbeat.ts";
import { launcher } from "./subsystems/launcher.ts";
import { memory } from "./subsystems/memory.ts";
import { messages } from "./subsystems/messages.ts";
import { observe } from "./subsystems/observe.ts";
import { readiness } from "./subsystems/readiness.ts";
import { reconcile } from "./subsystems/reconcile.ts";
import { refusals } from "./subsystems/refusals.ts";
import { rooms } from "./subsystems/rooms.ts";
import { serviceLoop } from "./subsystems/service-loop.ts";
import { services } from "./subsystems/services.ts";
import { signingKey } from "./subsystems/signing-key.ts";
import { upgrade } from "./subsystems/upgrade.ts";
import { become } from "./upgrade/become.ts";

const subsystems = [
  signingKey,
  messages,
  audit,
  rooms,
  desired,
  launcher,
  health,
  services,
  reconcile,
  serviceLoop,
  departure,
  authorization,
  upgrade,
  facts,
  connection,
  heartbeat,
  readiness,
  refusals,
  observe,
  memory,
] as const;

/** Actions under way when the daemon stops get this long; the launcher finishes them without us. */
const STOP_MS_MAX = 2_000;

export type DaemonOptions = {
  /** This program's command line, without the program: what another build of it is started with. */
  readonly args: readonly string[];
  /** Called with one line on the daemon's connection to the homeserver, at each change. */
  readonly onStatus?: (line: string) => void;
};

export type Daemon = AsyncDisposable & {
  /**
   * Resolves when this machine was revoked or decommissioned and its sandboxes are gone, with the reason; rejects when a
   * subsystem failed. Otherwise it stays open.
   */
  readonly revoked: Promise<Error>;
  /** Resolves with a status line once the daemon has found its work, or what keeps it from that. */
  readonly ready: Promise<string>;
};

/** Resolves once observe.sock answers. @throws BureauError when there is no session or its file cannot be read */
export async function startDaemon(
  config: DaemonConfig,
  runtime: Runtime,
  options: DaemonOptions,
): Promise<Daemon> {
  migrateDaemonFiles(config.layout);
  const running = new RunningSubsystems();
  const stop = new AbortController();
  const parts = await running.start(subsystems, contextOf(config, runtime, options, running, stop.signal));
  const end = new MachineEnd({
    departure: parts.departure,
    upgrader: parts.upgrade.upgrader,
    reconciler: parts.reconcile,
    log: runtime.log,
  });
  const loops = running.run(stop.signal).map((loop) => loop.catch((error: unknown) => end.loopFailed(error)));
  runtime.log.info("daemon.ready", "daemon ready", { machine: config.machine, version });
  return {
    revoked: end.revoked,
    ready: parts.readiness.ready,
    async [Symbol.asyncDispose]() {
      end.stopping();
      stop.abort();
      const ended = Promise.allSettled(loops);
      await Promise.all([running.stop(), Promise.race([ended, runtime.clock.sleep(STOP_MS_MAX)])]);
    },
  };
}

function contextOf(
  config: DaemonConfig,
  runtime: Runtime,
  options: DaemonOptions,
  running: RunningSubsystems,
  signal: AbortSignal,
): DaemonContext {
  const { session, userId } = openMachineSession(config);
  return {
    ...runtime,
    config,
    session,
    userId,
    userOf: (name) => userIdOf(principalLocalpart(config.fleet, name), config.serverName),
    hub: new ChangeHub(),
    inherited: {
      sockets: inheritedSockets([socketNames.observe]),
      streams: inheritedStreams(runtime.log),
    },
    onStatus: (line) => options.onStatus?.(line),
    become: (path, how) =>
      become(path, { handOvers: running.handOvers, args: options.args, signal, log: runtime.log }, how),
    viewsOf: (part) => running.viewsOf(part),
  };
}
