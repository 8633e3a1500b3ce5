/**
 * The configuration of a proxy: once on its standard input (CBOR), later on its admin socket (JSON, wire facts section 7.3).
 * Outside the proxy's memory, credentials in clear exist only here.
 */
import * as v from "valibot";
import { GrantSchema } from "./authorization.ts";
import { jsonObject, list, mapOf, ref, unset } from "./parse.ts";
import { ProxyServiceSchema } from "./proxy-service.ts";
import { parsePrincipalName, parseUserId } from "./refs.ts";

/** One CBOR map, then end of file. A proxy that reads an incomplete one exits before it listens. */
export const ProxyStartSchema = v.object({
  /** `agent/x`, for logs. */
  principal: ref(parsePrincipalName),
  /** The socket the sandbox sees. */
  socket_path: v.string(),
  /** The socket only this machine's daemon uses. */
  admin_socket_path: v.string(),
  /** Of a service: its socket on the host, and the link to the sandbox's root, where the program's own socket is. */
  service: v.optional(v.object({ socket: v.string(), root: v.string() })),
  matrix_homeserver_url: v.optional(v.string()),
  /** Without a scheme prefix. Absent: the Matrix endpoints answer 503. */
  matrix_token: v.optional(v.string()),
  matrix_user_id: v.optional(ref(parseUserId)),
  /** Everything else in the bundle: name → value. */
  credentials: v.optional(mapOf(v.string())),
  grants: v.optional(list(GrantSchema)),
  services: v.optional(mapOf(ProxyServiceSchema)),
  /** The hosts that the sandbox may reach (egress-rules.ts), and the socket on which the proxy carries it there. */
  tunnel: v.optional(v.object({ socket: v.string(), hosts: list(v.string()) })),
  /** Forward proxy to upstreams: see os/egress. Empty strings: not set. */
  egress: v.optional(v.object({ httpsProxy: v.string(), noProxy: v.string(), caCerts: v.string() })),
  fleet: v.optional(v.string()),
  machine: v.optional(v.string()),
  workspace_room_id: v.optional(v.string()),
  /** The daemon's socket, where the proxy says that it has refused an act. */
  observe_socket: v.optional(v.string()),
});
export type ProxyStart = v.InferInput<typeof ProxyStartSchema>;

/** PUT /v1/admin/services/{name}: exactly one of the two upstreams. */
export const AdminServiceSchema = v.pipe(
  v.object({
    upstream_url: v.optional(v.string()),
    upstream_unix: v.optional(v.string()),
    inject_headers: v.optional(mapOf(v.string())),
    strip_headers: v.optional(list(v.string())),
    auth_scheme: v.optional(v.string()),
    response_interceptors: v.optional(list(jsonObject)),
  }),
  v.check(
    (service) => service.upstream_url !== undefined || service.upstream_unix !== undefined,
    "a service needs upstream_url or upstream_unix",
  ),
);
export const AdminGrantsSchema = list(GrantSchema);
/** Equal acts that a proxy refused. */
const RefusalSchema = v.object({
  /** `proxy/matrix`, `proxy/upstream`, …: the enforcement point of audit events. */
  point: v.string(),
  action: v.string(),
  target: v.optional(v.string()),
  reason: v.string(),
  /** The first of them: `POST /_matrix/client/v3/createRoom`. */
  detail: v.optional(v.string()),
  count: v.pipe(v.number(), v.integer(), v.minValue(1)),
  /** RFC 3339. */
  first: v.string(),
  last: v.string(),
});
export type Refusal = v.InferOutput<typeof RefusalSchema>;
/** GET /v1/admin/refusals: given again until DELETE /v1/admin/refusals/{batch}. */
export const RefusalBatchSchema = v.object({
  batch: v.pipe(v.string(), v.regex(/^[0-9a-f]{8}-\d{1,10}$/u)),
  refusals: list(RefusalSchema),
});
export type RefusalBatch = v.InferOutput<typeof RefusalBatchSchema>;

export const AdminCredentialsSchema = mapOf(v.string());

/** A service as GET /v1/services shows it and PUT /v1/admin/directory sets it. */
const DirectoryEntrySchema = v.object({
  localpart: ref(parsePrincipalName),
  principal: ref(parseUserId),
  machine: ref(parseUserId),
  /** Names of its endpoints (`cbor`, `http`), sorted. */
  endpoints: list(v.string()),
  description: unset(v.string()),
  capabilities: v.optional(list(v.string())),
  metadata: v.optional(jsonObject),
});
export type DirectoryEntry = v.InferOutput<typeof DirectoryEntrySchema>;
export const AdminDirectorySchema = list(DirectoryEntrySchema);
