/**
 * `m.bureau.rollout`, in the fleet room, key: the rollout's id: other binaries for many machines, and how far that is.
 * All of a rollout is here; whoever drives it keeps nothing, so any operator's command can go on where another ended.
 */
import * as v from "valibot";
import { mapOf, ref } from "./parse.ts";
import { parseMachine, parseUserId } from "./refs.ts";

const count = v.pipe(v.number(), v.integer(), v.minValue(1));

/**
 * `succeeded` and `failed` are what the machine said of its request, or that it said nothing in time; `rolling-back`
 * and `rolled-back` come after one of them; `skipped` was never asked.
 */
export const rolloutMachineStates = [
  "pending",
  "upgrading",
  "skipped",
  "succeeded",
  "failed",
  "rolling-back",
  "rolled-back",
] as const;

export const RolloutMachineSchema = v.object({
  /** Full localpart. */
  machine: ref(parseMachine),
  state: v.picklist(rolloutMachineStates),
  /** Goes up when a resumed rollout tries this machine again. */
  attempt: count,
  /** Follows from rollout, machine and attempt: asked twice, it is one request. */
  request_id: v.optional(v.string()),
  /** The request it replaces in the machine's desired state; empty when there was none. */
  replaces_request: v.optional(v.string()),
  /** What it ran before, and goes back to. */
  previous_host_environment_path: v.optional(v.string()),
  /** RFC 3339. */
  asked_at: v.optional(v.string()),
  finished_at: v.optional(v.string()),
  reason: v.optional(v.string()),
});
export type RolloutMachine = v.InferOutput<typeof RolloutMachineSchema>;

/** In the order in which they follow each other within one generation. */
export const rolloutStates = ["running", "rolling-back", "halted", "done", "rolled-back"] as const;
export type RolloutState = (typeof rolloutStates)[number];

export const RolloutSchema = v.object({
  host_environment_path: v.pipe(v.string(), v.minLength(1)),
  /** Absent when whoever started it could not look into the environment. */
  version: v.optional(v.string()),
  /** Program → SHA-256, likewise. */
  programs: v.optional(mapOf(v.string())),
  /** The `bureau_version` machines are given. */
  bureau_version: mapOf(v.string()),
  /** `all`, or the labels a machine must have. */
  selector: v.union([v.literal("all"), mapOf(v.string())]),
  /** So many machines must have succeeded before any other is asked. */
  canary: count,
  /** So many are asked at once after that. */
  batch: count,
  halt_on_error: v.boolean(),
  rollback_on_error: v.boolean(),
  /** Machines without a heartbeat are waited for; otherwise they are skipped. */
  wait_offline: v.boolean(),
  /** A machine that has said nothing after this long has failed. */
  timeout_seconds: count,
  requested_by: ref(parseUserId),
  started_at: v.string(),
  finished_at: v.optional(v.string()),
  state: v.picklist(rolloutStates),
  /** Goes up with each resumption after an end. */
  generation: count,
  machines: v.array(RolloutMachineSchema),
});
export type Rollout = v.InferOutput<typeof RolloutSchema>;
