/**
 * The launcher's parts put together: adopt what runs, then listen. Disposing ends every sandbox; a launcher that is
 * killed instead leaves them running for the next one.
 */
import { mkdirSync, rmSync } from "node:fs";
import { serveCbor } from "@bureau/kit/cbor-socket";
import type { Clock } from "@bureau/kit/clock";
import { launcherSocket, tmuxConfig, tmuxSocket } from "@bureau/kit/layout";
import type { Log } from "@bureau/kit/log";
import type { AccountLocalpart } from "@bureau/schema/refs";
import { launcherActions } from "./actions.ts";
import type { MachineKey } from "./keys.ts";
import type { LauncherConfig } from "./launcher-config.ts";
import { PrincipalLock } from "./principal-lock.ts";
import { ProxyProcesses } from "./proxy-process.ts";
import { adoptSandboxes } from "./sandbox/adopt.ts";
import { clearSandbox, destroySandbox, GRACE_MS, recordExit } from "./sandbox/destroy.ts";
import { ExitWatch } from "./sandbox/exit-watch.ts";
import { findHostTools, findSandboxPrograms, homesOfUser } from "./sandbox/host-tools.ts";
import { pathsOf, type SandboxHost } from "./sandbox/sandbox-host.ts";
import { SandboxTable } from "./sandbox/sandbox-table.ts";
import { createTmux } from "./terminal/tmux.ts";

export type LauncherDeps = {
  readonly clock: Clock;
  readonly log: Log;
  readonly key: MachineKey;
  /** In [0, 1). */
  readonly random: () => number;
};

/** Requests in flight get this long when the launcher stops. */
const DRAIN_MS_MAX = 1_000;

/** Resolves when launcher.sock answers. The caller holds the instance lock and is past first boot. */
export async function startLauncher(config: LauncherConfig, deps: LauncherDeps): Promise<AsyncDisposable> {
  mkdirSync(config.layout.runDir, { recursive: true, mode: 0o700 });
  for (const root of [config.layout.workspaceRoot, config.layout.cacheRoot])
    mkdirSync(root, { recursive: true, mode: 0o755 });
  const lock = new PrincipalLock();
  const host = makeHost(config, deps, lock);
  await host.tmux.ensureServer();
  await adoptSandboxes(host);
  host.proxies.prepareSpare();
  const server = await serveCbor({
    listen: { path: launcherSocket(config.layout), mode: 0o660 },
    actions: launcherActions(host, lock),
    log: deps.log,
  });
  deps.log.info("launcher ready", { sandboxes: host.table.all().length });
  return {
    async [Symbol.asyncDispose]() {
      await server.drain(DRAIN_MS_MAX);
      await server[Symbol.asyncDispose]();
      // A sandbox that is being made is not in the table yet, or not whole.
      await lock.idle();
      await endEverything(host, lock);
      rmSync(launcherSocket(config.layout), { force: true });
    },
  };
}

function makeHost(config: LauncherConfig, deps: LauncherDeps, lock: PrincipalLock): SandboxHost {
  const { clock, log, key } = deps;
  const table = new SandboxTable(config.layout, config.fleet, Math.floor(deps.random() * 2 ** 40));
  const watch = new ExitWatch({
    record: (principal) => table.get(principal),
    paths: (principal) => pathsOf({ config }, principal),
    onExit: (principal) => void ended(principal),
    onProxyChange: () => table.changed(),
  });
  const ended = (principal: AccountLocalpart): Promise<void> =>
    lock
      .run(principal, () => recordExit(host, principal))
      .catch((error: unknown) => log.error("cannot record an exit", { principal, error }));
  const proxies = new ProxyProcesses({
    command: config.proxyCommand,
    runDir: config.layout.runDir,
    clock,
    log,
    onExit: () => watch.sweep(),
  });
  const mountPolicy = { layout: config.layout, homes: homesOfUser(), programsDir: config.programsDir };
  const tmux = createTmux(config.layout);
  const host: SandboxHost = {
    ...{ config, clock, log, key, table, watch, proxies, mountPolicy, tmux },
    ...{ hostTools: findHostTools(), ...findSandboxPrograms() },
  };
  return host;
}

/** Destroys all sandboxes at once, each within its grace, then the terminal server and the spare proxy. */
async function endEverything(host: SandboxHost, lock: PrincipalLock): Promise<void> {
  const { layout } = host.config;
  const endings = host.table.all().map(({ principal }) =>
    lock.run(principal, async () => {
      if (host.table.get(principal) === undefined) return;
      await destroySandbox(host, principal, { force: false, graceMs: GRACE_MS }).catch(
        async (error: unknown) => {
          host.log.error("cannot end a sandbox in order", { principal, error });
          await clearSandbox(host, principal);
        },
      );
    }),
  );
  await Promise.allSettled(endings);
  host.watch[Symbol.dispose]();
  await host.proxies[Symbol.asyncDispose]();
  await host.tmux.killServer();
  for (const path of [tmuxSocket(layout), tmuxConfig(layout)]) rmSync(path, { force: true });
}
