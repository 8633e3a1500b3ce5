/**
 * `/http/<upstream>/<path>`: forwards to a declared upstream. Injects the principal's credentials and drops the caller's
 * values of those headers.
 */
import { BureauError } from "@bureau/kit/errors";
import { viaNetwork } from "@bureau/os/egress";
import { bodiless, forward, requestHeaders } from "./forward.ts";
import type { ProxyState } from "./proxy-state.ts";
import { Denied } from "./refusal.ts";
import { segmentsOf, type Target } from "./request-target.ts";
import type { DeclaredUpstream } from "./upstream.ts";

/** Methods by which an upstream would return the injected headers to the caller, or open a tunnel past the proxy. */
const refusedMethods: ReadonlySet<string> = new Set(["TRACE", "TRACK", "CONNECT"]);

/** @throws BureauError `not-found` for an undeclared upstream, `unauthorized` for a missing credential, `unavailable` */
export function forwardToUpstream(
  state: ProxyState,
  name: string,
  target: Target,
  request: Request,
  signal: AbortSignal,
): Promise<Response> {
  const upstream = state.upstreams.get(name);
  if (upstream === undefined)
    throw new Denied(
      { point: "proxy/upstream", action: `upstream/${name}`, reason: "no such upstream is declared" },
      `No upstream "${name}" is declared for this principal`,
      { code: "not-found", hint: "declare it in proxy_services of the template" },
    );
  if (refusedMethods.has(request.method))
    throw new BureauError(
      "unsupported",
      `The method ${request.method} cannot pass a proxy that injects credentials`,
    );
  assertInsidePrefix(target.path);
  const headers = requestHeaders(request.headers);
  for (const header of upstream.strip) headers.delete(header);
  inject(state, upstream, headers);
  const url = `${upstream.base}${target.path}${target.query === "" ? "" : `?${target.query}`}`;
  return forward(
    {
      name: `upstream "${name}"`,
      url,
      inFlight: state.inFlight,
      egress: upstream.socket?.optionsFor(bodiless.has(request.method)) ?? viaNetwork(upstream.base),
    },
    { method: request.method, headers, body: request.body, signal },
  );
}

function inject(state: ProxyState, upstream: DeclaredUpstream, headers: Headers): void {
  for (const { header, key, render } of upstream.inject)
    headers.set(header, render(state.credentialFor(upstream.name, header, key)));
}

/**
 * Checks a path with an encoded part in its decoded form, so that it cannot leave the prefix when the upstream decodes
 * it. Empty segments are allowed. @throws BureauError `invalid-input`
 */
function assertInsidePrefix(path: string): void {
  if (/%(?:2e|2f|5c|25)/iu.test(path)) segmentsOf(path.replaceAll(/\/{2,}/gu, "/"));
}
