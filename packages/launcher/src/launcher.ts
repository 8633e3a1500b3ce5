/**
 * Assembles the launcher: adopts running sandboxes, listens, then clears leftovers. Disposal ends every sandbox. After a
 * SIGKILL of the launcher the sandboxes keep running, and the next launcher adopts them.
 */
import { lstatSync, mkdirSync, rmSync } from "node:fs";
import { retry } from "@bureau/kit/backoff";
import type { Clock } from "@bureau/kit/clock";
import type { Log } from "@bureau/kit/log";
import type { Runtime } from "@bureau/kit/runtime";
import { type CborServer, serveCbor } from "@bureau/os/cbor-server";
import { digestOf } from "@bureau/os/digest";
import { removeTemporariesIn } from "@bureau/os/durable-file";
import { IdleCollection } from "@bureau/os/idle-collection";
import { launcherSocket, socketNames, tmuxConfig, tmuxSocket } from "@bureau/os/layout";
import { endEventsFault } from "@bureau/os/process-end";
import { inheritedSockets } from "@bureau/os/systemd";
import type { PrincipalName } from "@bureau/schema/refs";
import { launcherActions } from "./actions.ts";
import { loadAge, type MachineKey } from "./keys.ts";
import type { LauncherConfig } from "./launcher-config.ts";
import { ControlGroups } from "./limits/control-groups.ts";
import { prepareGroups } from "./limits/prepare-groups.ts";
import { PrincipalLock } from "./principal-lock.ts";
import { childProxies, socketProxies } from "./proxy-channel.ts";
import { ProxyProcesses } from "./proxy-process.ts";
import { Renewal } from "./renewal.ts";
import { adoptSandboxes, clearLeftovers } from "./sandbox/adopt.ts";
import { clearSandbox, destroySandbox, GRACE_MS, recordExit } from "./sandbox/destroy.ts";
import { ExitWatch } from "./sandbox/exit-watch.ts";
import { findHostTools, findSandboxPrograms, homesOfUser } from "./sandbox/host-tools.ts";
import { isWhole, migrateRecords } from "./sandbox/record.ts";
import type { SandboxHost } from "./sandbox/sandbox-host.ts";
import { FIRST_REVISION_MAX, SandboxTable } from "./sandbox/sandbox-table.ts";
import { createTmux } from "./terminal/tmux.ts";

export type LauncherDeps = Runtime & {
  readonly key: MachineKey;
  /** This program's arguments: the next build of it starts with the same. */
  readonly args: readonly string[];
  /** The descriptor that holds the instance lock; the next build inherits it. */
  readonly lockFd: number;
};

/** For open requests to finish when the launcher stops. */
const DRAIN_MS_MAX = 1_000;

/**
 * Resolves when every sandbox on this machine is adopted or cleared. launcher.sock answers earlier, because clients may wait
 * while one build replaces another: it answers queries, and requests for changes wait. The caller holds the instance lock,
 * and first boot is done.
 */
export async function startLauncher(config: LauncherConfig, deps: LauncherDeps): Promise<AsyncDisposable> {
  warnOfSlowEnds(deps.log);
  mkdirSync(config.layout.runDir, { recursive: true, mode: 0o700 });
  removeUnfinishedFiles(config.layout.stateDir, deps.clock);
  migrateRecords(config.layout, config.fleet);
  const lock = new PrincipalLock();
  const stop = new AbortController();
  const host = makeHost(config, deps, lock, stop.signal);
  const leftovers = adoptSandboxes(host);
  const cleared = Promise.withResolvers<void>();
  // A rejection refuses the waiting requests. Without any, the start fails with the same error.
  cleared.promise.catch(() => {});
  const passed = inheritedSockets([socketNames.launcher]).get(socketNames.launcher);
  const memory = new IdleCollection(deps.clock);
  const renewal = new Renewal({ host, lock, lockFd: deps.lockFd, args: deps.args, log: deps.log });
  const listen = (): Promise<CborServer> =>
    serveCbor({
      listen: passed ?? { path: launcherSocket(config.layout), mode: 0o660 },
      actions: launcherActions(host, lock, renewal, cleared.promise, () => memory.acted()),
      log: deps.log,
    });
  const early = leftovers.ended.length === 0 ? await listen() : undefined;
  for (const root of [config.layout.workspaceRoot, config.layout.cacheRoot])
    mkdirSync(root, { recursive: true, mode: 0o755 });
  await host.tmux.ensureServer();
  await prepareGroups(host);
  await clearLeftovers(host, leftovers);
  host.proxies.spares.refill();
  await loadAge();
  const server = early ?? (await listen());
  const socketIsOurs = passed?.isOurs ?? true;
  renewal.setServer(server, socketIsOurs);
  cleared.resolve();
  deps.log.info("launcher.ready", "launcher ready", { sandboxes: host.table.all().length });
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      memory[Symbol.dispose]();
      renewal[Symbol.dispose]();
      await server.drain(DRAIN_MS_MAX);
      await server[Symbol.asyncDispose]();
      await Promise.all([endSandboxes(host, lock), lock.idle()]);
      // A sandbox that was being created was not in the table yet.
      await endSandboxes(host, lock);
      await stopTmux(host);
      if (socketIsOurs) rmSync(launcherSocket(config.layout), { force: true });
    },
  };
}

function warnOfSlowEnds(log: Log): void {
  const reason = endEventsFault();
  if (reason === undefined) return;
  log.warn(
    "process.lookups",
    "the kernel does not report the end of processes: the launcher looks each up about once a second",
    { reason },
  );
}

/** A temporary file that is older has no writer any more. */
const UNFINISHED_MS = 60_000;

/** Removes temporary files that a killed process left: they may contain a key or a session. */
function removeUnfinishedFiles(folder: string, clock: Clock): void {
  const isOld = (path: string): boolean =>
    clock.now() - (lstatSync(path, { throwIfNoEntry: false })?.mtimeMs ?? clock.now()) > UNFINISHED_MS;
  removeTemporariesIn(folder, (_name, path) => isOld(path));
}

function makeHost(
  config: LauncherConfig,
  deps: LauncherDeps,
  lock: PrincipalLock,
  stopping: AbortSignal,
): SandboxHost {
  const { clock, log, key } = deps;
  const table = new SandboxTable(config.layout, config.fleet, Math.floor(deps.random() * FIRST_REVISION_MAX));
  const ending = new Set<PrincipalName>();
  /** An end may be reported more than once. One task in the principal's lock queue is enough. */
  const ended = (principal: PrincipalName): void => {
    if (ending.has(principal)) return;
    ending.add(principal);
    void retry(() => lock.run(principal, () => recordExit(host, principal)), {
      clock,
      signal: stopping,
      random: deps.random,
      isTransient: () => true,
      onRetry: (error) =>
        log.error("sandbox.exit-unrecorded", "cannot record an exit; trying again", { principal, error }),
    })
      .catch(() => {})
      .finally(() => ending.delete(principal));
  };
  const watch = new ExitWatch(ended);
  const clearLater = (principal: PrincipalName): void =>
    void retry(
      () =>
        lock.run(principal, async () => {
          // A new sandbox has replaced it, so there is nothing to clear.
          if (!isWhole(table.get(principal))) await clearSandbox(host, principal);
        }),
      {
        clock,
        signal: stopping,
        random: deps.random,
        isTransient: () => true,
        onRetry: (error) =>
          log.error("sandbox.clear-failed", "cannot clear the remains of a sandbox; trying again", {
            principal,
            error,
          }),
      },
    ).catch(() => {});
  const open =
    config.proxySocket === undefined
      ? childProxies(config.proxyCommand, config.layout.runDir)
      : socketProxies(config.proxySocket);
  const proxies = new ProxyProcesses({ open, runDir: config.layout.runDir, clock, log });
  const mountPolicy = { layout: config.layout, homes: homesOfUser(), buildDir: config.buildDir };
  const groups = new ControlGroups(digestOf(config.layout.runDir).slice(0, 12));
  const tmux = createTmux(config.layout, { external: config.externalTerminals, clock });
  const host: SandboxHost = {
    config,
    clock,
    log,
    key,
    table,
    watch,
    proxies,
    mountPolicy,
    groups,
    tmux,
    stopping,
    clearLater,
    hostTools: findHostTools(),
    programs: findSandboxPrograms(),
  };
  return host;
}

/** Destroys all sandboxes concurrently, each within its grace period. */
async function endSandboxes(host: SandboxHost, lock: PrincipalLock): Promise<void> {
  const endings = host.table.all().map(({ principal }) =>
    lock.run(principal, async () => {
      if (host.table.get(principal) === undefined) return;
      await destroySandbox(host, principal, { force: false, graceMs: GRACE_MS }).catch(
        async (error: unknown) => {
          host.log.error("sandbox.stop-failed", "cannot end a sandbox; clearing it by force", {
            principal,
            error,
          });
          await clearSandbox(host, principal);
        },
      );
    }),
  );
  await Promise.allSettled(endings);
}

/** Ends the tmux server and the spare proxies, after the last sandbox. */
async function stopTmux(host: SandboxHost): Promise<void> {
  const { layout } = host.config;
  host.watch[Symbol.dispose]();
  host.table[Symbol.dispose]();
  await host.proxies[Symbol.asyncDispose]();
  await host.tmux.killServer();
  host.groups[Symbol.dispose]();
  for (const path of [tmuxSocket(layout), tmuxConfig(layout)]) rmSync(path, { force: true });
}
