/**
 * The one way to the homeserver: every Matrix request, raw or through `/v1/matrix`, is judged by the policy, stripped
 * of any identity that the caller claims, given the principal's own, and forwarded exactly as it was judged.
 */

import { BureauError } from "@bureau/kit/errors";
import { egressTo } from "@bureau/os/egress";
import { type ForwardOptions, forward } from "./forward.ts";
import { HOMESERVER } from "./in-flight.ts";
import { judgeMatrixRequest } from "./matrix-policy.ts";
import type { ProxyState } from "./proxy-state.ts";
import { queryWithout, type Target } from "./request-target.ts";

/** Query parameters by which a caller could act as another user. */
const identityParameters: ReadonlySet<string> = new Set(["access_token", "user_id"]);

/** The only headers a caller may send on: none of them says who it is or what the method really was. */
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

/** @throws BureauError `forbidden`, naming the grant that is missing */
function authorizeMatrix(state: ProxyState, method: string, path: string): void {
  const verdict = judgeMatrixRequest(method, path);
  if (verdict.kind === "never")
    throw new BureauError(
      "forbidden",
      `${method} ${path} is never allowed through a proxy: ${verdict.reason}`,
    );
  for (const action of verdict.needs) {
    const decision = state.check(action);
    if (!decision.allowed)
      throw new BureauError("forbidden", `${method} ${path} needs the grant "${action}": ${decision.reason}`);
  }
}
