/**
 * Chooses the module that answers a request. Catches errors, and renders them for the API that the caller used.
 *
 * ```
 * /health  /v1/identity  /v1/grants  /v1/services   this file
 * /v1/matrix/…                                      v1-matrix.ts
 * /http/<upstream>/…                                upstream-gateway.ts
 * /http/matrix/…  /_matrix/…  /.well-known/matrix/… matrix-gateway.ts: an unmodified Matrix client works at the root
 * /v1/admin/…                                       admin.ts, on the admin socket alone
 * ```
 */
import { BureauError } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { serverOf } from "@bureau/schema/refs";
import { adminPrefix, serveAdmin } from "./admin.ts";
import { forwardMatrix } from "./matrix-gateway.ts";
import type { ProxyState } from "./proxy-state.ts";
import { codeOf, Denied, renderRefusal, type Surface } from "./refusal.ts";
import { type Target, targetOf } from "./request-target.ts";
import { reservedUpstream } from "./upstream.ts";
import { forwardToUpstream, openWebSocket } from "./upstream-gateway.ts";
import { matrixEndpoints } from "./v1-matrix.ts";
import type { WebSocketRelay } from "./websocket-relay.ts";

export type RouterOptions = {
  readonly state: ProxyState;
  /** True on the admin socket, which serves `/v1/admin` beside everything that the agent socket serves. */
  readonly admin: boolean;
  readonly log: Log;
  /** Aborts when the proxy stops: long polls end at once, other requests finish. */
  readonly stopping: AbortSignal;
  /** Makes a request's connection a WebSocket. */
  readonly upgrade: (request: Request, relay: WebSocketRelay, headers: Record<string, string>) => boolean;
};

const matrixCalls = "/v1/matrix/";
const passthrough = "/http/";

/** Never rejects. Undefined: the connection is a WebSocket now. */
export async function route(options: RouterOptions, request: Request): Promise<Response | undefined> {
  let surface: Surface = "v1";
  try {
    const target = targetOf(request);
    surface = surfaceOf(target.path);
    if (request.headers.get("upgrade")?.toLowerCase() === "websocket")
      return await upgradeRequest(options, request, target);
    return await dispatch(options, request, target);
  } catch (error) {
    if (error instanceof Denied) options.state.refusals.note(error.refused);
    if (codeOf(error) === undefined) options.log.error("request.failed", "request failed", { error });
    return renderRefusal(surface, error);
  }
}

function surfaceOf(path: string): Surface {
  if (
    isMatrixPath(path) ||
    path.startsWith(matrixCalls) ||
    path.startsWith(`${passthrough}${reservedUpstream}/`)
  )
    return "matrix";
  return path.startsWith(passthrough) ? "http" : "v1";
}

const isMatrixPath = (path: string): boolean =>
  path.startsWith("/_matrix/") || path.startsWith("/.well-known/matrix/");

function dispatch(options: RouterOptions, request: Request, target: Target): Promise<Response> | Response {
  const { path } = target;
  if (path.startsWith(passthrough)) return passThrough(options, request, target);
  if (isMatrixPath(path)) return toMatrix(options, request, target);
  if (path.startsWith(matrixCalls)) return callMatrix(options, request, target);
  if (options.admin && path.startsWith(adminPrefix))
    return serveAdmin(options.state, request, path.slice(adminPrefix.length), options.log);
  return answer(options.state, request, target);
}

function passThrough(options: RouterOptions, request: Request, target: Target): Promise<Response> {
  const { name, inner } = passedThrough(target);
  return name === reservedUpstream
    ? toMatrix(options, request, inner)
    : forwardToUpstream(options.state, name, inner, request, request.signal);
}

async function upgradeRequest(options: RouterOptions, request: Request, target: Target): Promise<undefined> {
  const { name, inner } = passedThrough(target);
  if (!target.path.startsWith(passthrough) || name === reservedUpstream)
    throw new BureauError(
      "unsupported",
      "WebSockets pass this proxy only to declared upstreams, /http/NAME/…",
    );
  await openWebSocket({
    state: options.state,
    name,
    target: inner,
    request,
    stopping: options.stopping,
    upgrade: (relay, headers) => options.upgrade(request, relay, headers),
  });
}

/** The upstream's name of a path below {@link passthrough}, and the target there. */
function passedThrough(target: Target): { name: string; inner: Target } {
  const slash = target.path.indexOf("/", passthrough.length);
  const encoded =
    slash < 0 ? target.path.slice(passthrough.length) : target.path.slice(passthrough.length, slash);
  const inner = { path: slash < 0 ? "/" : target.path.slice(slash), query: target.query };
  return { name: encoded.replaceAll(/%3a/giu, ":").replaceAll(/%40/gu, "@"), inner };
}

function toMatrix(options: RouterOptions, request: Request, target: Target): Promise<Response> {
  const poll = request.method === "GET" && target.path.endsWith("/sync");
  return forwardMatrix(options.state, target, request, poll ? pollSignal(options, request) : request.signal);
}

const pollSignal = (options: RouterOptions, request: Request): AbortSignal =>
  AbortSignal.any([request.signal, options.stopping]);

function callMatrix(options: RouterOptions, request: Request, target: Target): Promise<Response> {
  const name = `${request.method} ${target.path.slice(matrixCalls.length)}`;
  const endpoint = matrixEndpoints.get(name);
  if (endpoint === undefined) throw noSuch(request.method, target.path);
  const signal = name === "GET sync" ? pollSignal(options, request) : request.signal;
  return endpoint({ state: options.state, request, query: new URLSearchParams(target.query), signal });
}

function answer(state: ProxyState, request: Request, { path, query }: Target): Response {
  if (path === "/v1/proxy")
    throw new BureauError("not-found", "This proxy does not support command services (/v1/proxy)", {
      hint: "declare an upstream in proxy_services and call /http/<upstream>/",
    });
  switch (`${request.method} ${path}`) {
    case "GET /health":
      return Response.json({ status: "ok" });
    case "GET /v1/identity":
      return identity(state);
    case "GET /v1/grants":
      return Response.json(state.grants);
    case "GET /v1/services":
      return services(state, new URLSearchParams(query));
    default:
      throw noSuch(request.method, path);
  }
}

function identity({ userId }: ProxyState): Response {
  if (userId === undefined)
    throw new BureauError("unauthorized", "This principal has no Matrix identity: it has no credentials yet");
  return Response.json({ user_id: userId, server_name: serverOf(userId), observe_socket: "" });
}

function services(state: ProxyState, query: URLSearchParams): Response {
  const capability = query.get("capability") ?? "";
  const protocol = query.get("protocol") ?? "";
  const shown = state
    .discoverable()
    .filter((entry) => capability === "" || (entry.capabilities ?? []).includes(capability))
    .filter((entry) => protocol === "" || entry.endpoints.includes(protocol));
  return Response.json(shown);
}

const noSuch = (method: string, path: string): BureauError =>
  new BureauError("not-found", `No such endpoint: ${method} ${path}`);
