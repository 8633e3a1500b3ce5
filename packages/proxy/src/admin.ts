/**
 * `/v1/admin/…`: by these calls the machine's daemon changes a running proxy (wire facts, section 7.3). The proxy parses
 * the whole input before it changes its state, so a refused request changes nothing. No reply or error contains a
 * credential.
 */
import { BureauError } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { parse } from "@bureau/schema/parse";
import {
  AdminCredentialsSchema,
  AdminDirectorySchema,
  AdminGrantsSchema,
  AdminServiceSchema,
} from "@bureau/schema/proxy-wire";
import { ADMIN_BODY_BYTES_MAX, readJsonBody } from "./json-body.ts";
import { parseSecretly } from "./parse-secretly.ts";
import type { ProxyState } from "./proxy-state.ts";
import { addressOf, reservedUpstream } from "./upstream.ts";

export const adminPrefix = "/v1/admin/";

/** `path` is what follows {@link adminPrefix}. @throws BureauError `not-found`, `invalid-input`, `too-large` */
export async function serveAdmin(
  state: ProxyState,
  request: Request,
  path: string,
  log: Log,
): Promise<Response> {
  if (path === "services" && request.method === "GET")
    return Response.json(
      [...state.upstreams.values()].map((upstream) => ({
        name: upstream.name,
        upstream: addressOf(upstream),
      })),
    );
  if (path.startsWith("services/")) {
    const name = upstreamName(path.slice("services/".length));
    if (request.method === "PUT") return putUpstream(state, request, name, log);
    if (request.method === "DELETE") return deleteUpstream(state, name, log);
  }
  if (path === "refusals" && request.method === "GET") return Response.json(state.refusals.give());
  if (path.startsWith("refusals/") && request.method === "DELETE")
    return dropRefusals(state, path.slice("refusals/".length));
  if (request.method === "PUT") {
    if (path === "directory") {
      state.directory = await read(request, AdminDirectorySchema, "directory");
      return Response.json({ status: "ok", services: state.directory.length });
    }
    if (path === "authorization") {
      state.grants = await read(request, AdminGrantsSchema, "grants");
      log.info("grants.replaced", "grants replaced", { grants: state.grants.length });
      return Response.json({ status: "ok", grants: state.grants.length });
    }
    if (path === "credentials") return putCredentials(state, request, log);
  }
  throw new BureauError("not-found", `No such admin endpoint: ${request.method} ${adminPrefix}${path}`);
}

async function putUpstream(state: ProxyState, request: Request, name: string, log: Log): Promise<Response> {
  const input = await read(request, AdminServiceSchema, `upstream "${name}"`);
  const upstream = state.putUpstream(name, input);
  const address = addressOf(upstream);
  log.info("upstream.set", "upstream set", { upstream: name, address });
  if (upstream.interceptorsIgnored) warnOfInterceptors(log, name);
  return Response.json({ name, upstream: address }, { status: 201 });
}

function deleteUpstream(state: ProxyState, name: string, log: Log): Response {
  if (!state.upstreams.delete(name)) throw new BureauError("not-found", `No upstream "${name}"`);
  log.info("upstream.removed", "upstream removed", { upstream: name });
  return Response.json({ status: "removed", name });
}

function dropRefusals(state: ProxyState, batch: string): Response {
  if (!state.refusals.drop(batch))
    throw new BureauError("not-found", `No batch of refusals "${batch.slice(0, 20)}" is kept`);
  return Response.json({ status: "removed", batch });
}

async function putCredentials(state: ProxyState, request: Request, log: Log): Promise<Response> {
  const body = await readJsonBody(request, ADMIN_BODY_BYTES_MAX);
  const values = parseSecretly(AdminCredentialsSchema, body, "credentials");
  state.replaceCredentials(values);
  const count = Object.keys(values).length;
  log.info("credentials.replaced", "credentials replaced", { credentials: count });
  return Response.json({ status: "ok", credentials: count });
}

export function warnOfInterceptors(log: Log, upstream: string): void {
  log.warn(
    "upstream.interceptors-ignored",
    "this proxy does not run response_interceptors: it sends no events for this upstream",
    { upstream },
  );
}

function upstreamName(encoded: string): string {
  let name: string;
  try {
    name = decodeURIComponent(encoded);
  } catch {
    throw new BureauError(
      "invalid-input",
      `Invalid upstream name "${encoded}": its percent-encoding is broken`,
    );
  }
  if (name === reservedUpstream)
    throw new BureauError("invalid-input", `Cannot change upstream "${name}": it is built in`);
  return name;
}

const read = async <const Schema extends Parameters<typeof parse>[0]>(
  request: Request,
  schema: Schema,
  what: string,
) => parse<Schema>(schema, await readJsonBody(request, ADMIN_BODY_BYTES_MAX), what);
