/**
 * `/http/<service>/<path>`: a declared service, with the principal's credentials put in and the caller's own values of
 * those headers thrown away.
 */

import { BureauError } from "@bureau/kit/errors";
import { viaNetwork, viaSocket } from "@bureau/os/egress";
import { forward, requestHeaders } from "./forward.ts";
import type { ProxyState } from "./proxy-state.ts";
import { segmentsOf, type Target } from "./request-target.ts";
import type { Service } from "./upstream.ts";

/** Methods that would make an upstream show us, and so the caller, the headers we injected, or tunnel past us. */
const refusedMethods: ReadonlySet<string> = new Set(["TRACE", "TRACK", "CONNECT"]);

/** @throws BureauError `not-found` for an unknown service, `unauthorized` for a missing credential, `unavailable` */
export function forwardToService(
  state: ProxyState,
  name: string,
  target: Target,
  request: Request,
  signal: AbortSignal,
): Promise<Response> {
  const service = state.services.get(name);
  if (service === undefined)
    throw new BureauError("not-found", `No proxy service "${name}" is declared for this principal`, {
      hint: "see GET /v1/services, or proxy_services of the template",
    });
  if (refusedMethods.has(request.method))
    throw new BureauError(
      "unsupported",
      `The method ${request.method} cannot pass a proxy that injects credentials`,
    );
  assertInsidePrefix(target.path);
  const headers = requestHeaders(request.headers);
  for (const header of service.strip) headers.delete(header);
  inject(state, service, headers);
  const url = `${service.base}${target.path}${target.query === "" ? "" : `?${target.query}`}`;
  return forward(
    {
      name: `service "${name}"`,
      url,
      inFlight: state.inFlight,
      egress: service.unix === undefined ? viaNetwork(service.base) : viaSocket(service.unix),
    },
    { method: request.method, headers, body: request.body, signal },
  );
}

function inject(state: ProxyState, service: Service, headers: Headers): void {
  for (const { header, key, prefix } of service.inject)
    headers.set(header, prefix + state.credentialFor(service.name, header, key));
}

/**
 * A path with an encoded part is decoded and looked through, so that no upstream decodes its way out of the prefix.
 * Empty segments are a service's own business. @throws BureauError `invalid-input`
 */
function assertInsidePrefix(path: string): void {
  if (/%(?:2e|2f|5c|25)/iu.test(path)) segmentsOf(path.replaceAll(/\/{2,}/gu, "/"));
}
