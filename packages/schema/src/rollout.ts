/**
 * `m.bureau.rollout`, in the fleet room, key: the rollout's id: a build for many machines, and the progress of each.
 * Machines that do not fit into this event are in further ones, key: `ID/1`, `ID/2`, …; commands of earlier builds see the
 * first. These events are the whole state of a rollout. The rollout controller keeps none, so any operator's command can
 * resume it.
 */
import * as v from "valibot";
import { mapOf, ref } from "./parse.ts";
import { parseMachine, parseUserId } from "./refs.ts";

const count = v.pipe(v.number(), v.integer(), v.minValue(1));

/**
 * `succeeded` and `failed` are the machine's report of its request, or `failed` is a timeout; `rolling-back`
 * and `rolled-back` follow one of them; `skipped` got no request.
 */
const rolloutMachineStates = [
  "pending",
  "upgrading",
  "skipped",
  "succeeded",
  "failed",
  "rolling-back",
  "rolled-back",
] as const;

const RolloutMachineSchema = v.object({
  /** Full localpart. */
  machine: ref(parseMachine),
  state: v.picklist(rolloutMachineStates),
  /** Incremented when a resumed rollout tries this machine again. */
  attempt: count,
  /** Derived from rollout, machine and attempt: writing it twice makes one request. */
  request_id: v.optional(v.string()),
  /** The request it replaces in the machine's desired state; empty when there was none. */
  replaces_request: v.optional(v.string()),
  /** Path of its previous build, for a rollback. */
  previous_host_environment_path: v.optional(v.string()),
  /** RFC 3339. */
  asked_at: v.optional(v.string()),
  finished_at: v.optional(v.string()),
  reason: v.optional(v.string()),
});
export type RolloutMachine = v.InferOutput<typeof RolloutMachineSchema>;

/** In the order of a generation. */
export const rolloutStates = ["running", "rolling-back", "halted", "done", "rolled-back"] as const;
export type RolloutState = (typeof rolloutStates)[number];

export const RolloutSchema = v.object({
  host_environment_path: v.pipe(v.string(), v.minLength(1)),
  /** Absent when the command that started the rollout could not read the build. */
  version: v.optional(v.string()),
  /** Program → SHA-256, likewise. */
  programs: v.optional(mapOf(v.string())),
  /** The `bureau_version` to write to machines. */
  bureau_version: mapOf(v.string()),
  /** `all`, or the labels a machine must have. */
  selector: v.union([v.literal("all"), mapOf(v.string())]),
  /** Machines to upgrade first; the rest wait for them. */
  canary: count,
  /** Machines that upgrade at the same time after the canaries. */
  batch: count,
  halt_on_error: v.boolean(),
  rollback_on_error: v.boolean(),
  /** Wait for machines without a heartbeat; otherwise they are skipped. */
  wait_offline: v.boolean(),
  /** A machine without a report after this time has failed. */
  timeout_seconds: count,
  requested_by: ref(parseUserId),
  started_at: v.string(),
  finished_at: v.optional(v.string()),
  state: v.picklist(rolloutStates),
  /** Incremented each time an ended rollout is resumed. */
  generation: count,
  machines: v.array(RolloutMachineSchema),
});
export type Rollout = v.InferOutput<typeof RolloutSchema>;

/** The first event of a rollout. */
export const RolloutFirstSchema = v.object({
  ...RolloutSchema.entries,
  /** Further events that hold machines of the rollout, its parts; absent when there are none. */
  parts: v.optional(count),
});

/** Machines of a rollout beyond those of its first event. */
export const RolloutPartSchema = v.object({ machines: v.array(RolloutMachineSchema) });
