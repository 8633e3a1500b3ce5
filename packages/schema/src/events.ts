/**
 * The state events this machine reads and writes: type strings, content schemas, and their keys.
 * Field names are the wire's (section 3); a reader accepts unknown fields and drops them.
 */
import * as v from "valibot";
import { ChainHeadSchema } from "./audit.ts";
import { AuthorizationPolicySchema } from "./authorization.ts";
import { ContentMatchSchema } from "./content-match.ts";
import { jsonObject, list, mapOf, ref, unset } from "./parse.ts";
import { parsePrincipal, parseRoomAlias, parseStateRef, parseUserId, type UserId } from "./refs.ts";
import { SecretBindingSchema } from "./template.ts";

/** Event types, each spelled once. */
export const eventTypes = {
  machineKey: "m.bureau.machine_key",
  machineInfo: "m.bureau.machine_info",
  machineStatus: "m.bureau.machine_status",
  machineConfig: "m.bureau.machine_config",
  machineConfigPage: "m.bureau.machine_config_page",
  machineVersion: "m.bureau.machine_version",
  machineDecommission: "m.bureau.machine_decommission",
  machineDecommissioned: "m.bureau.machine_decommissioned",
  rollout: "m.bureau.rollout",
  fleetCache: "m.bureau.fleet_cache",
  credentials: "m.bureau.credentials",
  credentialKeys: "m.bureau.credential_keys",
  template: "m.bureau.template",
  service: "m.bureau.service",
  serviceBinding: "m.bureau.service_binding",
  tokenSigningKey: "m.bureau.token_signing_key",
  credentialRevocation: "m.bureau.credential_revocation",
  reservation: "m.bureau.reservation",
  machineDrain: "m.bureau.machine_drain",
  authorization: "m.bureau.authorization",
  temporalGrant: "m.bureau.temporal_grant",
  devTeam: "m.bureau.dev_team",
  audit: "m.bureau.audit",
  member: "m.room.member",
  powerLevels: "m.room.power_levels",
  message: "m.room.message",
} as const;

const integer = v.pipe(v.number(), v.integer());
const userId = ref(parseUserId);

/** A user ID whose localpart is a principal's: `@<fleet>/<type>/<name>:<server>`. */
export const PrincipalUserSchema: v.GenericSchema<string, UserId> = ref((value) => {
  const user = parseUserId(value);
  parsePrincipal(user.slice(1, user.indexOf(":")));
  return user;
});

const templateRef = ref((value: string) => {
  parseStateRef(value);
  return value;
});

export const MachineKeySchema = v.object({
  algorithm: v.literal("age-x25519"),
  public_key: v.pipe(v.string(), v.startsWith("age1")),
});
export type MachineKey = v.InferOutput<typeof MachineKeySchema>;

export const MachineInfoSchema = v.object({
  principal: userId,
  hostname: v.string(),
  kernel_version: v.string(),
  board_vendor: unset(v.string()),
  board_name: unset(v.string()),
  cpu: v.object({
    model: v.string(),
    sockets: integer,
    cores_per_socket: integer,
    threads_per_core: integer,
    l3_cache_kb: v.optional(integer),
  }),
  memory_total_mb: integer,
  swap_total_mb: v.optional(integer),
  numa_nodes: v.optional(integer),
  gpus: v.optional(list(jsonObject)),
  /** A label that a map cannot hold is dropped: the machine's facts and its other labels stay valid. */
  labels: v.optional(v.record(v.string(), v.string())),
  daemon_version: v.string(),
});
export type MachineInfo = v.InferOutput<typeof MachineInfoSchema>;

const PrincipalStatusSchema = v.object({
  cpu_percent: integer,
  memory_mb: integer,
  status: v.picklist(["running", "idle", "starting"]),
});

export const MachineStatusSchema = v.object({
  principal: userId,
  cpu_percent: integer,
  memory_used_mb: integer,
  gpu_stats: v.optional(list(jsonObject)),
  sandboxes: v.object({ running: integer, idle: integer }),
  uptime_seconds: integer,
  last_activity_at: unset(v.string()),
  transport_address: unset(v.string()),
  principals: v.optional(mapOf(PrincipalStatusSchema)),
  /** How many more principals run: the list holds what fits into one event. */
  principals_omitted: v.optional(integer),
  /** The next event of this machine in this room comes within this time; 30 s unless the event says otherwise. */
  heartbeat_interval_seconds: v.optional(integer),
  /** The last audit event that the homeserver accepted: the config room has it, and every event before it. */
  audit_head: v.optional(ChainHeadSchema),
});
export type MachineStatus = v.InferOutput<typeof MachineStatusSchema>;

const StartConditionSchema = v.object({
  event_type: v.pipe(v.string(), v.minLength(1)),
  state_key: v.string(),
  /** Unset: the machine's config room. */
  room_alias: unset(ref(parseRoomAlias)),
  content_match: v.optional(ContentMatchSchema),
});

export const restartPolicies = ["always", "on-failure", "never"] as const;
export type RestartPolicy = (typeof restartPolicies)[number];

export const PrincipalAssignmentSchema = v.object({
  principal: PrincipalUserSchema,
  template: v.union([v.literal(""), templateRef]),
  auto_start: v.boolean(),
  labels: v.optional(mapOf(v.string())),
  matrix_policy: v.optional(
    v.object({
      allow_join: v.optional(v.boolean()),
      allow_invite: v.optional(v.boolean()),
      allow_room_create: v.optional(v.boolean()),
    }),
  ),
  service_visibility: v.optional(list(v.string())),
  authorization: v.optional(AuthorizationPolicySchema),
  command_override: v.optional(list(v.string())),
  environment_override: unset(v.string()),
  extra_environment_variables: v.optional(mapOf(v.string())),
  extra_inherits: v.optional(list(templateRef)),
  required_services_override: v.optional(list(v.string())),
  secrets_override: v.optional(v.nullable(v.array(SecretBindingSchema))),
  payload: v.optional(jsonObject),
  start_condition: v.optional(StartConditionSchema),
  restart_policy: unset(v.picklist(restartPolicies)),
});
export type PrincipalAssignment = v.InferOutput<typeof PrincipalAssignmentSchema>;

export const BureauVersionSchema = v.object({
  daemon_store_path: v.string(),
  launcher_store_path: v.string(),
  proxy_store_path: v.string(),
  log_relay_store_path: unset(v.string()),
  host_environment_path: unset(v.string()),
  /** Ours: new for every request. A build that failed is tried again only with a new one. */
  request_id: unset(v.string()),
  /** The writer's claim. Decisions use the event's sender as the requester. */
  requested_by: unset(userId),
  /** RFC 3339. */
  requested_at: unset(v.string()),
});
export type BureauVersion = v.InferOutput<typeof BureauVersionSchema>;

/**
 * The frame of a machine's desired state. Each assignment is parsed on its own with
 * {@link PrincipalAssignmentSchema}, so that one faulty entry does not invalidate the others.
 */
export const MachineConfigSchema = v.object({
  principals: list(v.unknown()),
  default_policy: v.optional(AuthorizationPolicySchema),
  bureau_version: v.optional(BureauVersionSchema),
});
export type MachineConfig = v.InferOutput<typeof MachineConfigSchema>;

/**
 * Ours: further assignments, which do not fit into the machine's configuration; an event holds 64 KiB. In the config room,
 * keys `1`, `2`, … without a gap (`config-pages.ts`). Other implementations ignore it.
 */
export const MachineConfigPageSchema = v.object({ principals: list(v.unknown()) });

/** Requests in the history of a machine's version event. */
export const VERSION_HISTORY_MAX = 20;

/** The result of one upgrade request. */
export const VersionRequestResultSchema = v.object({
  request_id: v.string(),
  host_environment_path: v.string(),
  version: unset(v.string()),
  requested_by: unset(userId),
  requested_at: unset(v.string()),
  finished_at: v.string(),
  duration_ms: integer,
  /** `refused`: nothing was changed. `rolled-back`: it was tried, and the previous build runs again. */
  outcome: v.picklist(["succeeded", "rolled-back", "refused"]),
  reason: unset(v.string()),
});

export const upgradeSteps = ["prefetch", "check", "daemon", "launcher", "confirm"] as const;
export type UpgradeStep = (typeof upgradeSteps)[number];

/** In the config room, key: the machine, written by it: the build that runs, and the results of upgrade requests. */
export const MachineVersionSchema = v.object({
  /** Path of the confirmed build: the one that starts after any crash. */
  host_environment_path: v.string(),
  version: v.string(),
  /** Running program → SHA-256 of its content. */
  programs: mapOf(v.string()),
  /** Path of the build that a rollback returns to. */
  previous_host_environment_path: unset(v.string()),
  /** `failed`: the last request was rolled back or refused. */
  state: v.picklist(["running", "upgrading", "failed"]),
  request_id: unset(v.string()),
  step: unset(v.picklist(upgradeSteps)),
  reason: unset(v.string()),
  /** Ours: how many pages of its configuration it reads. Absent: none. */
  config_pages: v.optional(integer),
  /** Newest first, at most {@link VERSION_HISTORY_MAX}. */
  history: list(VersionRequestResultSchema),
});
export type MachineVersion = v.InferOutput<typeof MachineVersionSchema>;

/** An address or key becomes a word in a line of Nix's configuration, where white space ends it. */
const cacheUrl = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9+-]+:\/\/[^\s"'\\]+$/u, "it is not the address of a cache"),
);
const cacheKey = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9._-]+:[A-Za-z0-9+/]+=*$/u, "it is not a public key NAME:BASE64 of a cache"),
);

/** In the fleet room, key `""`: the cache that machines fetch store paths from, and the keys whose signatures they trust. */
export const FleetCacheSchema = v.object({
  url: cacheUrl,
  /** The name of the cache (Attic). */
  name: unset(v.string()),
  public_keys: list(cacheKey),
  compose_template: unset(v.string()),
  default_system: unset(v.string()),
});
export type FleetCache = v.InferOutput<typeof FleetCacheSchema>;

/** The longest time a machine gives its sandboxes to end; the launcher has the same limit. */
export const DECOMMISSION_GRACE_SECONDS_MAX = 600;

/** In the config room, key: the machine. It must stop everything it runs and leave the fleet; only an administrator may request this. */
export const MachineDecommissionSchema = v.object({
  grace_seconds: v.pipe(integer, v.minValue(0)),
  requested_by: userId,
  requested_at: v.string(),
});
export type MachineDecommission = v.InferOutput<typeof MachineDecommissionSchema>;

/** In the config room, key: the machine, written by it: it has stopped everything. */
export const MachineDecommissionedSchema = v.object({
  /** Event ID of the request this answers. */
  request: v.string(),
  at: v.string(),
  /** Number of running sandboxes that it stopped. */
  stopped: integer,
});
export type MachineDecommissioned = v.InferOutput<typeof MachineDecommissionedSchema>;

const CredentialRevocationSchema = v.object({
  machine: v.string(),
  machine_user_id: userId,
  principals: v.optional(list(v.string())),
  credential_keys: v.optional(list(v.string())),
  initiated_by: userId,
  initiated_at: v.string(),
  reason: unset(v.string()),
  account_deactivated: v.boolean(),
});
export type CredentialRevocation = v.InferOutput<typeof CredentialRevocationSchema>;

export const CredentialsSchema = v.object({
  version: integer,
  principal: userId,
  encrypted_for: list(v.string()),
  keys: list(v.string()),
  /** Standard base64 of an age file; the plaintext is a JSON object name → string. */
  ciphertext: v.pipe(v.string(), v.minLength(1)),
  provisioned_by: userId,
  provisioned_at: v.string(),
  signature: v.optional(v.string()),
  expires_at: unset(v.string()),
});

export const ServiceSchema = v.object({
  /** Unset: deregistered. */
  principal: unset(userId),
  machine: unset(userId),
  capabilities: v.optional(list(v.string())),
  endpoints: v.optional(mapOf(v.string())),
  description: unset(v.string()),
  metadata: v.optional(jsonObject),
});
export type Service = v.InferOutput<typeof ServiceSchema>;

/** In a workspace's room or the config room, key: the role. */
export const ServiceBindingSchema = v.object({
  /** Unset: the role is not bound. */
  principal: unset(userId),
});

export const PowerLevelsSchema = v.object({
  users: v.optional(v.record(v.string(), integer)),
  users_default: v.optional(integer),
  events: v.optional(v.record(v.string(), integer)),
  events_default: v.optional(integer),
  state_default: v.optional(integer),
  invite: v.optional(integer),
  kick: v.optional(integer),
  ban: v.optional(integer),
  redact: v.optional(integer),
  notifications: v.optional(v.record(v.string(), integer)),
});
export type PowerLevels = v.InferOutput<typeof PowerLevelsSchema>;

/** State events are cleared by `{}` (section 1.9). */
export const isCleared = (content: Readonly<Record<string, unknown>>): boolean =>
  Object.keys(content).length === 0;

/** Messages with a command for a daemon, and with its reply (wire facts, section 4.1). */
export const messages = { command: "m.bureau.command", commandResult: "m.bureau.command_result" } as const;

/** The `msgtype`s of the event messages that our daemon sends to the config room (section 4.3). */
export const eventMessages = {
  principalAdopted: "m.bureau.principal_adopted",
  principalStarted: "m.bureau.principal_started",
  principalStartFailed: "m.bureau.principal_start_failed",
  principalRestarted: "m.bureau.principal_restarted",
  principalStopped: "m.bureau.principal_stopped",
  sandboxExited: "m.bureau.sandbox_exited",
  payloadUpdated: "m.bureau.payload_updated",
  proxyCrash: "m.bureau.proxy_crash",
  grantsUpdated: "m.bureau.grants_updated",
  credentialsRotated: "m.bureau.credentials_rotated",
  healthCheck: "m.bureau.health_check",
  principalSteady: "m.bureau.principal_steady",
  configInvalid: "m.bureau.config_invalid",
  daemonSelfUpdate: "m.bureau.daemon_self_update",
} as const;
