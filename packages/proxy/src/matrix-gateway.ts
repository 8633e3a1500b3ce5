/**
 * Forwards every Matrix request, raw or from `/v1/matrix`, to the homeserver: checks it against the policy, removes any
 * identity that the caller claims, adds the principal's own, and forwards exactly the request that it checked.
 */
import { egressTo } from "@bureau/os/egress";
import { type ForwardOptions, forward } from "./forward.ts";
import { HOMESERVER } from "./in-flight.ts";
import { judgeMatrixRequest } from "./matrix-policy.ts";
import type { ProxyState } from "./proxy-state.ts";
import { Denied } from "./refusal.ts";
import { queryWithout, type Target } from "./request-target.ts";

/** Query parameters by which a caller could act as another user. */
const identityParameters: ReadonlySet<string> = new Set(["access_token", "user_id"]);

/** The only headers that are forwarded: none of them names a user or overrides the method. */
const passedHeaders = [
  "accept",
  "accept-encoding",
  "accept-language",
  "content-encoding",
  "content-length",
  "content-type",
  "if-match",
  "if-none-match",
  "range",
  "traceparent",
  "user-agent",
] as const;

/** @throws BureauError `forbidden` when the policy denies, `unauthorized` without credentials, `unavailable` */
export function forwardMatrix(
  state: ProxyState,
  target: Target,
  request: {
    readonly method: string;
    readonly headers: Headers;
    readonly body: ReadableStream<Uint8Array> | string | null;
  },
  signal: AbortSignal,
): Promise<Response> {
  authorizeMatrix(state, request.method, target.path);
  const { homeserver, authorization } = state.matrixAccess();
  const query = queryWithout(target.query, identityParameters);
  const options: ForwardOptions = {
    method: request.method,
    headers: matrixHeaders(request.headers, authorization),
    body: request.body,
    signal,
  };
  const { base, options: egress } = egressTo(homeserver);
  const url = `${base}${target.path}${query === "" ? "" : `?${query}`}`;
  return forward({ name: HOMESERVER, url, egress, inFlight: state.inFlight }, options);
}

function matrixHeaders(from: Headers, authorization: string): Headers {
  const headers = new Headers();
  for (const name of passedHeaders) {
    const value = from.get(name);
    if (value !== null) headers.set(name, value);
  }
  if (!headers.has("accept-encoding")) headers.set("accept-encoding", "identity");
  headers.set("authorization", authorization);
  return headers;
}

/** @throws BureauError `forbidden`, which names the missing grant */
function authorizeMatrix(state: ProxyState, method: string, path: string): void {
  const verdict = judgeMatrixRequest(method, path);
  const deny = (action: string, reason: string, message: string): Denied =>
    new Denied({ point: "proxy/matrix", action, reason, detail: `${method} ${path}` }, message);
  if (verdict.kind === "never") {
    const message = `${method} ${path} is never allowed through a proxy: ${verdict.reason}`;
    throw deny("matrix/raw-api", "never allowed through a proxy", message);
  }
  for (const action of verdict.needs) {
    const decision = state.check(action);
    if (!decision.allowed)
      throw deny(
        action,
        decision.reason,
        `${method} ${path} needs the grant "${action}": ${decision.reason}`,
      );
  }
}
