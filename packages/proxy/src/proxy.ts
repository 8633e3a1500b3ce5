/**
 * The proxy of one sandbox: two unix sockets, one state. The sandbox sees the agent's socket. The admin socket has also
 * the endpoints by which the machine's daemon changes grants, upstreams and credentials.
 *
 * Both sockets have their final mode before the first client can connect. When a proxy stops, it removes only its own
 * sockets: its successor may have replaced them already.
 */
import { lstatSync, rmSync } from "node:fs";
import { basename, dirname } from "node:path";
import { BureauError, messageOf } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { configureEgress, noEgressSettings } from "@bureau/os/egress";
import type { ProxyStartSchema } from "@bureau/schema/proxy-wire";
import type { InferOutput } from "valibot";
import { warnOfInterceptors } from "./admin.ts";
import { pokeDaemon } from "./poke-daemon.ts";
import { ProxyState } from "./proxy-state.ts";
import { renderRefusal } from "./refusal.ts";
import { route } from "./router.ts";
import { startServiceRelay } from "./service-relay.ts";
import { type Resolve, startTunnel } from "./tunnel.ts";
import { type WebSocketRelay, webSocketHandler } from "./websocket-relay.ts";

/** For open requests to finish when the proxy stops. */
const DRAIN_MS_MAX = 5_000;
/** Owner and group of the launcher (wire facts, section 7.1). */
const SOCKET_MODE = 0o660;

export type ProxyDeps = {
  readonly log: Log;
  /** Milliseconds since the epoch: for the expiry of grants. */
  readonly now?: () => number;
  /** Names to addresses; the host's resolver by default. */
  readonly resolve?: Resolve;
};

/** Listens until disposed. Disposal waits for open requests, at most {@link DRAIN_MS_MAX}. */
export async function startProxy(
  config: InferOutput<typeof ProxyStartSchema>,
  deps: ProxyDeps,
): Promise<AsyncDisposable> {
  configureEgress(config.egress ?? noEgressSettings);
  const { principal, observe_socket: daemon } = config;
  const state = new ProxyState(config, deps.now, () => {
    if (daemon !== undefined) pokeDaemon(daemon, principal, deps.log);
  });
  for (const upstream of state.upstreams.values())
    if (upstream.interceptorsIgnored) warnOfInterceptors(deps.log, upstream.name);
  const stopping = new AbortController();
  const serve = (path: string, admin: boolean): Listener =>
    listen(
      path,
      (request, server) =>
        route(
          {
            state,
            admin,
            log: deps.log,
            stopping: stopping.signal,
            upgrade: (upgraded, data, headers) => server.upgrade(upgraded, { data, headers }),
          },
          request,
        ),
      deps.log,
    );
  const listeners = [serve(config.admin_socket_path, true)];
  try {
    listeners.push(serve(config.socket_path, false));
  } catch (error) {
    await Promise.all(listeners.map((listener) => listener.stop()));
    throw error;
  }
  const bridges = await startBridges(config, state, deps).catch(async (error: unknown) => {
    await Promise.all(listeners.map((listener) => listener.stop()));
    throw error;
  });
  return {
    async [Symbol.asyncDispose]() {
      stopping.abort();
      bridges[Symbol.dispose]();
      state.refusals[Symbol.dispose]();
      await Promise.all(listeners.map((listener) => listener.stop()));
    },
  };
}

/** What carries bytes without being an HTTP server: to a service's program, and to the hosts of the template's egress. */
async function startBridges(
  { service, tunnel }: InferOutput<typeof ProxyStartSchema>,
  { refusals }: ProxyState,
  { log, resolve }: ProxyDeps,
): Promise<Disposable> {
  using started = new DisposableStack();
  if (service !== undefined)
    started.use(await startServiceRelay({ socket: service.socket, root: service.root, log }));
  if (tunnel !== undefined)
    started.use(
      await startTunnel({
        socket: tunnel.socket,
        hosts: tunnel.hosts,
        onRefused: ({ target, reason }) =>
          refusals.note({ point: "proxy/egress", action: `egress/${target}`, reason }),
        log,
        ...(resolve === undefined ? {} : { resolve }),
      }),
    );
  return started.move();
}

type Server = Bun.Server<WebSocketRelay>;
/** Undefined: the connection is a WebSocket now. */
type Answer = (request: Request, server: Server) => Promise<Response | undefined>;
type Listener = { stop(): Promise<void> };

/** @throws BureauError `failed` when the socket cannot be created */
function listen(path: string, fetch: Answer, log: Log): Listener {
  rmSync(path, { force: true });
  const server = bindUnix(path, {
    // Each upstream has its own limit of uploads.
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    development: false,
    fetch,
    websocket: webSocketHandler,
    error(error) {
      log.error("request.failed", "request failed", { error });
      return renderRefusal("v1", error);
    },
  });
  const inode = lstatSync(path).ino;
  return {
    async stop() {
      if (lstatSync(path, { throwIfNoEntry: false })?.ino === inode) rmSync(path, { force: true });
      const drained = server.stop();
      const late = setTimeout(() => void server.stop(true), DRAIN_MS_MAX);
      await drained;
      clearTimeout(late);
    },
  };
}

type ServeOptions = {
  maxRequestBodySize: number;
  development: false;
  fetch: Answer;
  websocket: Bun.WebSocketHandler<WebSocketRelay>;
  error: (error: Error) => Response;
};

/**
 * Long polls and event streams have no deadline. The runtime applies this to unix sockets too (its default is 10 s), but
 * its types allow it for TCP only, so the type is `object`.
 */
const noIdleTimeout: object = { idleTimeout: 0 };

/**
 * The umask sets the mode, so that the socket never has another one.
 * Binds by a path relative to the socket's folder: a socket address holds 107 bytes, a fleet's folders more.
 * @throws BureauError `failed`
 */
function bindUnix(path: string, options: ServeOptions): Server {
  const folder = process.cwd();
  const umask = process.umask(0o777 & ~SOCKET_MODE);
  try {
    process.chdir(dirname(path));
    return Bun.serve({ ...options, ...noIdleTimeout, unix: `./${basename(path)}` });
  } catch (error) {
    throw new BureauError("failed", `Cannot listen on "${path}": ${messageOf(error)}`);
  } finally {
    process.umask(umask);
    process.chdir(folder);
  }
}
