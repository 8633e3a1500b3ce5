/**
 * The operator's socket (observe.sock): one JSON object and a newline each way (wire facts, section 8.1).
 * `status`, `logs` and `debug` are ours, added beside the reference's actions. `status` and `debug` need no token: a
 * process that may open the socket may read the machine's state, also while the homeserver is unreachable.
 */
import * as v from "valibot";
import { AllowanceSchema, DenialSchema, denialReasons, GrantSchema } from "./authorization.ts";
import { LimitsFactSchema, SandboxConfinementSchema } from "./launcher-ipc.ts";
import { list, unset } from "./parse.ts";

/** Bytes of one request or reply line. */
export const OBSERVE_LINE_BYTES_MAX = 4 * 1024 * 1024;

/** What `debug` prints: see `DebugReplySchema`. */
export const debugParts = [
  "plan", // inputs and result of the planner at this moment
  "rooms", // the rooms as synced: event types, counts, aliases
  "state", // state of the reconciler and the upgrader
  "authorization", // the policies that decisions are made from
] as const;
export type DebugPart = (typeof debugParts)[number];

export const ObserveRequestSchema = v.object({
  /** `""` means `observe`, as in the reference. */
  action: v.optional(v.string()),
  /** A Matrix access token; the daemon asks the homeserver whose it is. */
  token: v.optional(v.string()),
  /** Principal name, `agent/x`; a user ID for `query_grants` and `query_allowances`. */
  principal: v.optional(v.string()),
  /** `query_authorization`: may `actor` do `auth_action` to `target`? User IDs; no target for an act on oneself. */
  actor: v.optional(v.string()),
  auth_action: v.optional(v.string()),
  target: v.optional(v.string()),
  /** `logs`: number of lines. */
  lines: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(50_000))),
  observable: v.optional(v.boolean()),
  /** `mint_service_token`: which service to call. */
  service_role: v.optional(v.string()),
  /** `debug`: what to print. */
  part: v.optional(v.picklist(debugParts)),
});
export type ObserveRequest = v.InferOutput<typeof ObserveRequestSchema>;

/** The state of a principal, in the words of the CLI. */
export const principalStates = [
  "running",
  "starting", // being created
  "stopping", // being destroyed
  "waiting", // its start condition is not fulfilled
  "backing-off", // it failed; a retry is scheduled
  "completed", // it ended and its restart policy does not restart it
  "failed", // it cannot be started as configured; `reason` has the cause
  "stopped", // auto_start is off
] as const;

/** The result of a running principal's health check. */
const healthStates = [
  "starting", // not checked yet, or within its grace period
  "healthy",
  "failing", // it failed fewer times in a row than its threshold
  "unhealthy", // the daemon restarts it or rolls it back
] as const;

const PrincipalReportSchema = v.object({
  /** Principal name. */
  name: v.string(),
  user_id: v.string(),
  state: v.picklist(principalStates),
  template: v.string(),
  /** Why it is not running, for a person. */
  reason: v.optional(v.string()),
  pid: v.optional(v.number()),
  proxy_pid: v.optional(v.number()),
  /** Milliseconds since the epoch. */
  started_at: v.optional(v.number()),
  restarts: v.number(),
  /** Absent when it does not run, or its template has no health check. */
  health: v.optional(v.picklist(healthStates)),
  /** It runs its previous configuration because the new one failed; `reason` has the cause. */
  rolled_back: v.optional(v.boolean()),
  /** The layers of its sandbox; absent when it does not run. */
  sandbox: v.optional(SandboxConfinementSchema),
});
export type PrincipalReport = v.InferOutput<typeof PrincipalReportSchema>;

export const MachineReportSchema = v.object({
  ok: v.literal(true),
  machine: v.object({
    name: v.string(),
    user_id: v.string(),
    /** `online`: synced and converging. `disconnected`: the homeserver or the launcher is unreachable; sandboxes keep running. */
    state: v.picklist(["starting", "online", "disconnected"]),
    reason: v.optional(v.string()),
    fleet: v.string(),
    version: v.string(),
    /** Which limits of sandboxes are enforced; absent until the launcher reports it. */
    limits: v.optional(LimitsFactSchema),
  }),
  daemon: v.object({ pid: v.number(), started_at: v.number() }),
  /** The fleet's cache of store paths, from the fleet room; absent when it has none. */
  fleet_cache: v.optional(v.object({ url: v.string(), public_keys: v.array(v.string()) })),
  /** When the configuration that `principals` follows from was written: its event's `origin_server_ts`. */
  config_sent_at: v.optional(v.number()),
  /** Faults of the machine's configuration, one sentence each. */
  config_faults: v.optional(v.array(v.string())),
  principals: list(PrincipalReportSchema),
});
export type MachineReport = v.InferOutput<typeof MachineReportSchema>;

/** A decision with the rules that it follows from. Fields of a rule that decided are absent when none did. */
export const AuthorizationReplySchema = v.object({
  ok: v.literal(true),
  decision: v.picklist(["allow", "deny"]),
  reason: unset(v.picklist(denialReasons)),
  matched_grant: v.optional(GrantSchema),
  matched_denial: v.optional(DenialSchema),
  matched_allowance: v.optional(AllowanceSchema),
  matched_allowance_denial: v.optional(AllowanceSchema),
  actor_grants: v.optional(list(GrantSchema)),
  actor_denials: v.optional(list(DenialSchema)),
  target_allowances: v.optional(list(AllowanceSchema)),
  target_allowance_denials: v.optional(list(AllowanceSchema)),
});
export type AuthorizationReply = v.InferOutput<typeof AuthorizationReplySchema>;

export const GrantsReplySchema = v.object({
  ok: v.literal(true),
  principal: v.string(),
  grants: v.optional(list(GrantSchema)),
  denials: v.optional(list(DenialSchema)),
});
export type GrantsReply = v.InferOutput<typeof GrantsReplySchema>;

export const AllowancesReplySchema = v.object({
  ok: v.literal(true),
  principal: v.string(),
  allowances: v.optional(list(AllowanceSchema)),
  allowance_denials: v.optional(list(AllowanceSchema)),
});
export type AllowancesReply = v.InferOutput<typeof AllowancesReplySchema>;

export const LogsReplySchema = v.object({ ok: v.literal(true), output: v.string(), live: v.boolean() });

export const ServiceTokenReplySchema = v.object({
  ok: v.literal(true),
  /** Standard base64. */
  token: v.string(),
  /** Where the service answers on this machine. */
  socket_path: v.string(),
  ttl_seconds: v.number(),
  /** Seconds since the epoch. */
  expires_at: v.number(),
});
export type ServiceTokenReply = v.InferOutput<typeof ServiceTokenReplySchema>;

/** `view` is for people and changes with the code. It holds no credentials, payloads, environments or tokens. */
export const DebugReplySchema = v.object({
  ok: v.literal(true),
  part: v.picklist(debugParts),
  view: v.record(v.string(), v.unknown()),
});
export type DebugReply = v.InferOutput<typeof DebugReplySchema>;

export const ObserveErrorSchema = v.object({
  ok: v.literal(false),
  error: v.string(),
  code: v.optional(v.string()),
  hint: v.optional(v.string()),
});
