/**
 * The HTTP edge: one Bun.serve that finds the route, checks the token, runs the handler and turns its result
 * or error into JSON. Every answer carries CORS headers, because browsers are clients too. A bug answers
 * 500 M_UNKNOWN, is logged once here, and does not stop the server.
 */
import { BureauError, messageOf } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { clearStaleSocket } from "@bureau/os/stale-socket";
import { addressOfSocket, type ListenAddress } from "@bureau/schema/homeserver-address";
import type { Session, Sessions } from "../auth/sessions.ts";
import { isDiskFull } from "../store/database.ts";
import { MatrixError } from "./matrix-error.ts";
import type { RateLimits } from "./rate-limits.ts";
import { type RequestContext, readJson } from "./request.ts";
import { Created, type Route, type Router } from "./router.ts";

/** `shared`: the parent process holds the port for this program (SO_REUSEPORT); otherwise the port is exclusive. */
export type ServerAddress = ListenAddress & { readonly shared?: boolean };

export type HttpServer = {
  readonly url: string;
  readonly port: number;
  /** Stops accepting, waits for running requests, then closes the remaining connections. */
  stop(): Promise<void>;
};

/** How long running requests may take to finish once the server stops. */
const DRAIN_MS_MAX = 1_000;
/** Interval of polling: Bun has no event for the last answered request while connections stay open. */
const DRAIN_CHECK_MS = 2;
/** Seconds a connection may be idle. Long polls disable it for themselves (Bun's maximum is 255). */
const IDLE_SECONDS = 120;
/** Bun answers larger bodies itself and without JSON, so our own limit must be lower. */
const BUN_BODY_BYTES_MAX = 16 * 1_048_576;

const corsHeaders = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE, OPTIONS",
  "Access-Control-Allow-Headers": "X-Requested-With, Content-Type, Authorization, Date",
};

type Deps = {
  readonly router: Router;
  readonly sessions: Sessions;
  readonly limits: RateLimits;
  readonly log: Log;
};

/** Starts listening. Throws BureauError "unavailable" when the address is taken or not ours. */
export async function startHttpServer(address: ServerAddress, deps: Deps): Promise<HttpServer> {
  if (address.kind === "unix") await clearStaleSocket(address.path);
  const handle = (request: Request, server: Bun.Server<undefined>): Promise<Response> =>
    answer(request, server, deps);
  const shared = {
    fetch: handle,
    maxRequestBodySize: BUN_BODY_BYTES_MAX,
    development: false,
    error: (error: Error): Response => respondToError(error, deps.log, "request"),
  };
  let server: Bun.Server<undefined>;
  try {
    // Bun's per-request timeout has no effect on unix sockets, so they have no idle timeout.
    const patient: object = { idleTimeout: 0 };
    server =
      address.kind === "unix"
        ? Bun.serve({ ...shared, ...patient, unix: address.path })
        : Bun.serve({
            ...shared,
            hostname: address.hostname,
            port: address.port,
            reusePort: address.shared === true,
            idleTimeout: IDLE_SECONDS,
          });
  } catch (error) {
    const where = address.kind === "unix" ? `unix:${address.path}` : `${address.hostname}:${address.port}`;
    throw new BureauError("unavailable", `Cannot listen on ${where}`, {
      hint: "another program may listen there: choose another --listen address",
      cause: error,
    });
  }
  const port = server.port ?? 0;
  return {
    port,
    url:
      address.kind === "unix"
        ? addressOfSocket(address.path)
        : `http://${bracketed(address.hostname)}:${port}`,
    stop: () => drain(server),
  };
}

async function drain(server: Bun.Server<undefined>): Promise<void> {
  const drained = server.stop(false);
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
  }, DRAIN_MS_MAX);
  while (server.pendingRequests > 0 && !isLate) await Bun.sleep(DRAIN_CHECK_MS);
  clearTimeout(timer);
  await server.stop(true);
  await drained;
}

const bracketed = (hostname: string): string => (hostname.includes(":") ? `[${hostname}]` : hostname);

async function answer(request: Request, server: Bun.Server<undefined>, deps: Deps): Promise<Response> {
  if (request.method === "OPTIONS") return new Response(null, { status: 204, headers: corsHeaders });
  const [path, search] = splitUrl(request.url);
  try {
    const method = request.method === "HEAD" ? "GET" : request.method;
    const match = deps.router.match(method, path);
    if (match.kind === "unknown") {
      return respond(404, {
        errcode: "M_UNRECOGNIZED",
        error: `Unknown endpoint ${request.method} ${path.slice(0, 200)}`,
      });
    }
    if (match.kind === "wrong-method") {
      const allowed = match.allowed.join(", ");
      return respond(405, {
        errcode: "M_UNRECOGNIZED",
        error: `${request.method} is not one of ${allowed} here`,
      });
    }
    const query = new URLSearchParams(search);
    const remoteAddress = server.requestIP(request)?.address ?? null;
    const session = sessionOf(request, query, match.route, remoteAddress, deps);
    const context: RequestContext = {
      method,
      params: match.params,
      query,
      session,
      remoteAddress,
      signal: request.signal,
      holdOpen: () => server.timeout(request, 0),
      json: () => readJson(request),
    };
    const result = await match.route.handle(context);
    return result instanceof Created ? respond(201, result.body) : respond(200, result);
  } catch (error) {
    return respondToError(error, deps.log, `${request.method} ${path}`);
  }
}

/** Counts a request: one limit for each user, one for each address without a token. */
function sessionOf(
  request: Request,
  query: URLSearchParams,
  route: Route,
  remoteAddress: string | null,
  { sessions, limits }: Deps,
): Session | undefined {
  const isWrite = request.method !== "GET" && request.method !== "HEAD";
  const bytes = Number(request.headers.get("content-length") ?? "0");
  const counted = { remoteAddress, isWrite, bytes, cost: route.cost };
  let session: Session | undefined;
  try {
    if (route.auth === "required")
      session = sessions.authenticate(bearerToken(request, query), remoteAddress);
  } finally {
    limits.count({ ...counted, session });
  }
  return session;
}

function respond(status: number, body: object): Response {
  return Response.json(body, { status, headers: corsHeaders });
}

function respondToError(error: unknown, log: Log, act: string): Response {
  if (error instanceof MatrixError) return respond(error.status, error.body());
  if (isDiskFull(error)) {
    log.error("store.disk-full", "cannot write: the disk is full", { act });
    return respond(507, {
      errcode: "M_RESOURCE_LIMIT_EXCEEDED",
      error: "The homeserver's disk is full: reads work, writes fail",
    });
  }
  if (error instanceof URIError) {
    return respond(400, { errcode: "M_INVALID_PARAM", error: "The path is not valid percent-encoded UTF-8" });
  }
  log.error("request.failed", "request failed", {
    act,
    error: messageOf(error),
    stack: error instanceof Error ? error.stack : "",
  });
  return respond(500, { errcode: "M_UNKNOWN", error: "Internal server error" });
}

/** Path and query of a request URL, still encoded. */
function splitUrl(url: string): [path: string, search: string] {
  const afterScheme = url.indexOf("/", url.indexOf("://") + 3);
  const rest = afterScheme < 0 ? "/" : url.slice(afterScheme);
  const question = rest.indexOf("?");
  return question < 0 ? [rest, ""] : [rest.slice(0, question), rest.slice(question + 1)];
}

function bearerToken(request: Request, query: URLSearchParams): string | undefined {
  const header = request.headers.get("authorization");
  if (header !== null) return /^Bearer +(\S+)$/i.exec(header)?.[1] ?? "";
  return query.get("access_token") ?? undefined;
}
