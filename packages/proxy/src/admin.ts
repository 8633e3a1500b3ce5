/**
 * `/v1/admin/…`: how this machine's daemon changes a running proxy (wire facts, section 7.3). Input is parsed whole
 * before anything changes; a refused request leaves everything as it was. No reply or error holds a credential.
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
import { reservedService, upstreamOf } from "./upstream.ts";

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
      [...state.services.values()].map((service) => ({ name: service.name, upstream: upstreamOf(service) })),
    );
  if (path.startsWith("services/")) {
    const name = serviceName(path.slice("services/".length));
    if (request.method === "PUT") return putService(state, request, name, log);
    if (request.method === "DELETE") return deleteService(state, name, log);
  }
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

async function putService(state: ProxyState, request: Request, name: string, log: Log): Promise<Response> {
  const service = state.putService(name, await read(request, AdminServiceSchema, `service "${name}"`));
  const upstream = upstreamOf(service);
  log.info("upstream.set", "service set", { service: name, upstream });
  if (service.interceptorsIgnored) warnOfInterceptors(log, name);
  return Response.json({ name, upstream }, { status: 201 });
}

function deleteService(state: ProxyState, name: string, log: Log): Response {
  if (!state.services.delete(name)) throw new BureauError("not-found", `No proxy service "${name}"`);
  log.info("upstream.removed", "service removed", { service: name });
  return Response.json({ status: "removed", name });
}

async function putCredentials(state: ProxyState, request: Request, log: Log): Promise<Response> {
  const body = await readJsonBody(request, ADMIN_BODY_BYTES_MAX);
  const values = parseSecretly(AdminCredentialsSchema, body, "credentials");
  state.replaceCredentials(values);
  const count = Object.keys(values).length;
  log.info("credentials.replaced", "credentials replaced", { credentials: count });
  return Response.json({ status: "ok", credentials: count });
}

export function warnOfInterceptors(log: Log, service: string): void {
  log.warn(
    "upstream.interceptors-ignored",
    "response_interceptors are not run by this proxy: no events will be sent for this service",
    {
      service,
    },
  );
}

function serviceName(encoded: string): string {
  let name: string;
  try {
    name = decodeURIComponent(encoded);
  } catch {
    throw new BureauError(
      "invalid-input",
      `Invalid service name "${encoded}": its percent-encoding is broken`,
    );
  }
  if (name === reservedService)
    throw new BureauError("invalid-input", `The service "${name}" is built in and cannot be changed`);
  return name;
}

const read = async <const Schema extends Parameters<typeof parse>[0]>(
  request: Request,
  schema: Schema,
  what: string,
) => parse<Schema>(schema, await readJsonBody(request, ADMIN_BODY_BYTES_MAX), what);
