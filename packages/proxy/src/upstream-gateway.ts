/**
 * `/http/<upstream>/<path>`: forwards to a declared upstream. Injects the principal's credentials and drops the caller's
 * values of those headers.
 */
import { BureauError } from "@bureau/kit/errors";
import { viaNetwork } from "@bureau/os/egress";
import { bodiless, forward, requestHeaders } from "./forward.ts";
import type { OAuthToken } from "./oauth-token.ts";
import type { ProxyState } from "./proxy-state.ts";
import { Denied } from "./refusal.ts";
import { segmentsOf, type Target } from "./request-target.ts";
import type { DeclaredUpstream } from "./upstream.ts";
import { WebSocketRelay } from "./websocket-relay.ts";

/** Methods by which an upstream would return the injected headers to the caller, or open a tunnel past the proxy. */
const refusedMethods: ReadonlySet<string> = new Set(["TRACE", "TRACK", "CONNECT"]);

/** A larger body is not kept for a second try. */
const REPEATED_BYTES_MAX = 1024 * 1024;
type RequestBody = ReadableStream<Uint8Array> | ArrayBuffer | null;

/** @throws BureauError `not-found` for an undeclared upstream, `unauthorized` for a missing credential, `unavailable` */
export function forwardToUpstream(
  state: ProxyState,
  name: string,
  target: Target,
  request: Request,
  signal: AbortSignal,
): Promise<Response> {
  const upstream = declaredUpstream(state, name);
  if (refusedMethods.has(request.method))
    throw new BureauError(
      "unsupported",
      `The method ${request.method} cannot pass a proxy that injects credentials`,
    );
  assertInsidePrefix(target.path);
  const headers = requestHeaders(request.headers);
  for (const header of upstream.strip) headers.delete(header);
  const url = urlOf(upstream, target);
  const send = (body: RequestBody, tokens?: ReadonlyMap<string, string>): Promise<Response> => {
    inject(state, upstream, headers, tokens);
    return forward(
      {
        name: `upstream "${name}"`,
        url,
        inFlight: state.inFlight,
        egress: upstream.socket?.optionsFor(bodiless.has(request.method)) ?? viaNetwork(upstream.base),
      },
      { method: request.method, headers, body, signal },
    );
  };
  const oauth = upstream.inject.flatMap(({ key }) => state.oauthOf(key) ?? []);
  return oauth.length === 0 ? send(request.body) : sendWithTokens(oauth, request, send);
}

export type OpenWebSocket = {
  readonly state: ProxyState;
  readonly name: string;
  readonly target: Target;
  readonly request: Request;
  readonly stopping: AbortSignal;
  /** Makes the request's connection the sandbox's side. False when it cannot be one. */
  readonly upgrade: (relay: WebSocketRelay, headers: Record<string, string>) => boolean;
};

/**
 * Joins the sandbox's WebSocket to the upstream's, with the credentials that a plain request would carry.
 * @throws BureauError as {@link forwardToUpstream}, and `unsupported` for an upstream on a socket
 */
export async function openWebSocket(open: OpenWebSocket): Promise<void> {
  const { state, name, target, request, stopping, upgrade } = open;
  const upstream = declaredUpstream(state, name);
  if (upstream.socket !== undefined)
    throw new BureauError("unsupported", `WebSockets cannot pass to upstream "${name}": it is a unix socket`);
  assertInsidePrefix(target.path);
  const headers = requestHeaders(request.headers);
  for (const header of [...upstream.strip, ...handshakeHeaders]) headers.delete(header);
  const oauth = upstream.inject.flatMap(({ key }) => state.oauthOf(key) ?? []);
  inject(state, upstream, headers, await currentTokens(oauth));
  const asked = request.headers.get("sec-websocket-protocol") ?? "";
  const release = state.webSockets.begin(`upstream "${name}"`);
  const stop = (): void => relay.close();
  const relay = await WebSocketRelay.open({
    name: `upstream "${name}"`,
    url: urlOf(upstream, target).replace(/^http/u, "ws"),
    headers,
    protocols: asked
      .split(",")
      .map((protocol) => protocol.trim())
      .filter((protocol) => protocol !== ""),
    egress: viaNetwork(upstream.base),
    over() {
      release();
      stopping.removeEventListener("abort", stop);
    },
  });
  const chosen: Record<string, string> =
    relay.protocol === "" ? {} : { "sec-websocket-protocol": relay.protocol };
  if (stopping.aborted || !upgrade(relay, chosen)) {
    relay.close();
    throw new BureauError("invalid-input", "Cannot open a WebSocket: the request is no handshake (RFC 6455)");
  }
  stopping.addEventListener("abort", stop);
}

/** Those of the sandbox's own connection (RFC 6455, section 11.3). */
const handshakeHeaders = [
  "sec-websocket-key",
  "sec-websocket-version",
  "sec-websocket-extensions",
  "sec-websocket-protocol",
  "accept-encoding",
] as const;

function declaredUpstream(state: ProxyState, name: string): DeclaredUpstream {
  const upstream = state.upstreams.get(name);
  if (upstream === undefined)
    throw new Denied(
      { point: "proxy/upstream", action: `upstream/${name}`, reason: "no such upstream is declared" },
      `No upstream "${name}" is declared for this principal`,
      { code: "not-found", hint: "declare it in proxy_services of the template" },
    );
  return upstream;
}

const urlOf = (upstream: DeclaredUpstream, { path, query }: Target): string =>
  `${upstream.base}${path}${query === "" ? "" : `?${query}`}`;

const currentTokens = async (oauth: readonly OAuthToken[]): Promise<ReadonlyMap<string, string>> =>
  new Map(await Promise.all(oauth.map(async (token) => [token.key, await token.current()] as const)));

/** Sends once, and a second time with a new token when the upstream answers 401 and the body is still at hand. */
async function sendWithTokens(
  oauth: readonly OAuthToken[],
  request: Request,
  send: (body: RequestBody, tokens: ReadonlyMap<string, string>) => Promise<Response>,
): Promise<Response> {
  const body = await repeatable(request);
  const tokens = await currentTokens(oauth);
  const response = await send(body, tokens);
  if (response.status !== 401) return response;
  const helps = oauth.map((token) => token.refused(tokens.get(token.key) ?? "")).includes(true);
  if (!helps || body instanceof ReadableStream) return response;
  await response.body?.cancel();
  return await send(body, await currentTokens(oauth));
}

/** The body in memory when it is small and says so, else its stream. */
async function repeatable(request: Request): Promise<RequestBody> {
  const length = request.headers.get("content-length");
  const isSmall = length !== null && Number(length) <= REPEATED_BYTES_MAX;
  return isSmall ? await request.arrayBuffer() : request.body;
}

/** `tokens`: in place of the credentials that are refresh tokens. */
function inject(
  state: ProxyState,
  upstream: DeclaredUpstream,
  headers: Headers,
  tokens?: ReadonlyMap<string, string>,
): void {
  for (const { header, key, render } of upstream.inject)
    headers.set(header, render(tokens?.get(key) ?? state.credentialFor(upstream.name, header, key)));
}

/**
 * Checks a path with an encoded part in its decoded form, so that it cannot leave the prefix when the upstream decodes
 * it. Empty segments are allowed. @throws BureauError `invalid-input`
 */
function assertInsidePrefix(path: string): void {
  if (/%(?:2e|2f|5c|25)/iu.test(path)) segmentsOf(path.replaceAll(/\/{2,}/gu, "/"));
}
