/**
 * Audit events: what was decided on a machine about acts that count (wire facts, sections 3.9 and 4.5). The machine posts
 * them in its config room, as a chain: each names the hash of the one before it. The chain's fields are ours, and other
 * readers ignore them.
 */
import * as v from "valibot";
import { anyGlobMatches } from "./glob.ts";
import { jsonObject, unset } from "./parse.ts";

const auditDecisions = ["allow", "deny", "grant_created", "grant_revoked", "grant_expired"] as const;

const count = v.pipe(v.number(), v.integer(), v.minValue(1));
const hash = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/u));

/** What is recorded, with the wire's fields. */
export const AuditRecordSchema = v.object({
  decision: v.picklist(auditDecisions),
  actor: v.string(),
  action: v.string(),
  /** A user ID, or `""` for an act without a target. */
  target: v.optional(v.string(), ""),
  reason: unset(v.string()),
  /** Where it was decided: `daemon/observe`, `proxy/matrix`. */
  enforcement_point: v.string(),
  /** The machine's user ID. */
  machine: v.string(),
  /** The rules that decided. */
  matched_grant: v.optional(jsonObject),
  matched_denial: v.optional(jsonObject),
  matched_allowance: v.optional(jsonObject),
  matched_allowance_denial: v.optional(jsonObject),
  ticket: unset(v.string()),
  expires_at: unset(v.string()),
  /** Ours: an example of the act, where `action` is a kind of acts: `POST /_matrix/client/v3/createRoom`. */
  detail: unset(v.string()),
});
export type AuditRecord = v.InferOutput<typeof AuditRecordSchema>;

/** The last event of a chain. `sequence` is 0 before the first. */
export const ChainHeadSchema = v.object({
  /** Random; another one says that the machine began again, without its state folder. */
  chain: v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/u)),
  sequence: v.pipe(v.number(), v.integer(), v.minValue(0)),
  /** Of the event; `""` before the first. */
  hash: v.union([v.literal(""), hash]),
});
export type ChainHead = v.InferOutput<typeof ChainHeadSchema>;

/** The content of an event in a chain. */
export const ChainedAuditSchema = v.object({
  ...AuditRecordSchema.entries,
  /** RFC 3339 with milliseconds: the decision, or the first of `count` equal ones. */
  time: v.string(),
  last_time: v.optional(v.string()),
  count,
  chain: ChainHeadSchema.entries.chain,
  sequence: count,
  /** `hash` of the event before it; `""` of the first. */
  previous: ChainHeadSchema.entries.hash,
  /** SHA-256 of the content's canonical JSON without this field, in hex. */
  hash,
});
export type ChainedAudit = v.InferOutput<typeof ChainedAuditSchema>;

/** Actions that are recorded also when they are allowed. */
const sensitive = [
  "credential/provision/**",
  "credential/use/**",
  "interrupt/**",
  "fleet/**",
  "observe/read-write",
  "grant/approve/**",
];

export const isSensitive = (action: string): boolean => anyGlobMatches(sensitive, action);
