/** The actions of the launcher's socket: each with its schema and its handler. */
import { BureauError } from "@bureau/kit/errors";
import { version } from "@bureau/kit/version";
import { type Action, type ActionContext, action } from "@bureau/os/cbor-server";
import { tmuxSession } from "@bureau/os/layout";
import { catchesSignal, isAlive, signalProcess } from "@bureau/os/process-table";
import { type LauncherAction, type LauncherResponse, launcherRequests } from "@bureau/schema/launcher-ipc";
import type { PrincipalName } from "@bureau/schema/refs";
import type { PrincipalLock } from "./principal-lock.ts";
import { openBundle, type ProxyGrants, proxyStartOf } from "./proxy-start.ts";
import type { Renewal } from "./renewal.ts";
import { createSandbox } from "./sandbox/create.ts";
import { destroySandbox, GRACE_MS } from "./sandbox/destroy.ts";
import { readLastScreen, tail } from "./sandbox/exit-account.ts";
import { placeServices } from "./sandbox/place-services.ts";
import type { SandboxRecord } from "./sandbox/record.ts";
import { hasRootLink, linkSockets, writePayload } from "./sandbox/sandbox-files.ts";
import { pathsOf, type SandboxHost } from "./sandbox/sandbox-host.ts";

const SIGHUP = 1;
/** Below the 1 MiB of a response, with room for its frame. */
const CAPTURE_BYTES_MAX = 1_000_000;

/**
 * Actions that change one principal run one after another; those of different principals run concurrently. All of them
 * wait for `cleared`: until then the launcher removes what earlier launchers left. It drops a request whose client
 * disconnects before it starts, except a forced end of a sandbox: the daemon of a revoked machine exits at once.
 */
export function launcherActions(
  host: SandboxHost,
  lock: PrincipalLock,
  renewal: Renewal,
  cleared: Promise<void>,
  onChange: () => void,
): Record<LauncherAction, Action> {
  const startedAt = host.clock.now();
  const requests = launcherRequests;
  const change = <T>(
    principal: PrincipalName,
    caller: ActionContext | undefined,
    act: () => Promise<T>,
  ): Promise<T> =>
    cleared.then(() =>
      lock.run(principal, () => {
        if (caller !== undefined) requireCaller(caller.gone);
        onChange();
        return act();
      }),
    );
  return {
    status: action(
      requests.status,
      async (): Promise<LauncherResponse<"status">> => ({
        version,
        pid: process.pid,
        public_key: host.key.publicKey,
        key_protection: host.key.protection,
        sandboxes: host.table.all().filter(({ phase }) => phase === "running").length,
        started_at: startedAt,
        programs_dir: renewal.buildDir,
        ...renewal.status,
      }),
    ),
    "list-sandboxes": action(requests["list-sandboxes"], async ({ since }) => listOf(host, since)),
    wait: action(requests.wait, async ({ since, timeout_ms, changes }, { signal }) => {
      await host.table.waitForChange(since, timeout_ms, signal);
      return listOf(host, changes === true ? since : undefined);
    }),
    "create-sandbox": action(requests["create-sandbox"], (request, context) =>
      change(request.principal, context, () => createSandbox(host, request)),
    ),
    "destroy-sandbox": action(requests["destroy-sandbox"], ({ principal, force, grace_ms }, context) =>
      change(principal, force === true ? undefined : context, async () => {
        const exit = await destroySandbox(host, principal, {
          force: force ?? false,
          graceMs: grace_ms ?? GRACE_MS,
        });
        return exit === undefined ? {} : { exit };
      }),
    ),
    "signal-sandbox": action(requests["signal-sandbox"], ({ principal, signal }, context) =>
      change(principal, context, () => signalSandbox(host, principal, signal)),
    ),
    "update-payload": action(requests["update-payload"], ({ principal, payload, payload_digest }, context) =>
      change(principal, context, async () => {
        const record = runningRecord(host, principal, "update the payload");
        writePayload(pathsOf(host, principal), payload);
        host.table.put({ ...record, digests: { ...record.digests, payload: payload_digest } });
        const program = record.processes?.program;
        const signalled =
          program !== undefined && catchesSignal(program.pid, SIGHUP) && signalProcess(program, "SIGHUP");
        return { signalled };
      }),
    ),
    "update-services": action(requests["update-services"], ({ principal, services }, context) =>
      change(principal, context, async () => {
        runningRecord(host, principal, "replace the services");
        placeServices(host, principal, services);
      }),
    ),
    "restart-proxy": action(requests["restart-proxy"], ({ principal, spec_digest, ...grants }, context) =>
      change(principal, context, () => restartProxy(host, principal, grants, spec_digest)),
    ),
    "exec-update": action(requests["exec-update"], async ({ programs_dir, request_id }, { gone }) => {
      await cleared;
      requireCaller(gone);
      await renewal.begin(programs_dir, request_id, () => requireCaller(gone));
    }),
    "watch-daemon": action(requests["watch-daemon"], async ({ pid, start_ticks, deadline_ms }) =>
      renewal.watch({ pid, startTicks: start_ticks }, deadline_ms),
    ),
    "watched-ok": action(requests["watched-ok"], async ({ pid }) => renewal.release(pid)),
    "capture-output": action(requests["capture-output"], ({ principal, lines }) =>
      captureOutput(host, principal, lines),
    ),
  };
}

const listOf = (host: SandboxHost, since: number | undefined): LauncherResponse<"list-sandboxes"> => ({
  ...host.table.list(since),
  limits: host.groups.fact,
  gives_services: true,
  merges_keys: true,
});

function requireCaller(gone: AbortSignal): void {
  if (gone.aborted)
    throw new BureauError("failed", "Request dropped: the client disconnected before it started");
}

function runningRecord(host: SandboxHost, principal: PrincipalName, act: string): SandboxRecord {
  const record = host.table.get(principal);
  if (record === undefined)
    throw new BureauError("not-found", `Cannot ${act} of "${principal}": it has no sandbox`);
  if (record.phase !== "running")
    throw new BureauError("conflict", `Cannot ${act} of "${principal}": its program has ended`);
  return record;
}

async function signalSandbox(host: SandboxHost, principal: PrincipalName, signal: number): Promise<void> {
  const { processes } = runningRecord(host, principal, "signal the program");
  if (processes?.program === undefined || !signalProcess(processes.program, signal))
    throw new BureauError("conflict", `Cannot signal the program of "${principal}": it has ended`);
}

/** Starts a new proxy on the sockets of the old one: the sandbox sees it at the same path. */
async function restartProxy(
  host: SandboxHost,
  principal: PrincipalName,
  grants: ProxyGrants,
  specDigest?: string,
): Promise<LauncherResponse<"restart-proxy">> {
  const record = runningRecord(host, principal, "restart the proxy");
  using _refill = host.proxies.spares.pauseRefill();
  const bundle = await openBundle(host.key, grants);
  if (record.proxy !== undefined && isAlive(record.proxy)) await host.proxies.stop(record.proxy);
  const paths = pathsOf(host, principal);
  const { service, ...start } = proxyStartOf(host.config, principal, grants, bundle);
  const proxy = await host.proxies.start(
    service !== undefined && hasRootLink(paths) ? { ...start, service } : start,
    paths.dir,
  );
  try {
    linkSockets(paths);
    const { digests } = record;
    host.table.put({ ...record, proxy, digests: { ...digests, spec: specDigest ?? digests.spec } });
  } catch (error) {
    // No record names it, so no later step would stop it.
    await host.proxies.stop(proxy);
    throw error;
  }
  host.log.info("proxy.restarted", "proxy restarted", { principal, pid: proxy.pid });
  return { proxy_pid: proxy.pid };
}

async function captureOutput(
  host: SandboxHost,
  principal: PrincipalName,
  lines: number,
): Promise<LauncherResponse<"capture-output">> {
  const live = host.table.get(principal)?.phase === "running";
  const screen = live ? await host.tmux.capture(tmuxSession(principal), lines) : undefined;
  if (screen !== undefined) return { output: tail(screen, CAPTURE_BYTES_MAX), live: true };
  const last = readLastScreen(host.config.layout, principal);
  if (last === undefined)
    throw new BureauError(
      "not-found",
      `There is no output of "${principal}": it has not run on this machine`,
    );
  return { output: last.split("\n").slice(-lines).join("\n"), live: false };
}
