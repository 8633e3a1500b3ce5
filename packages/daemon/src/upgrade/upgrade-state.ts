/**
 * What a machine stores about its builds: the one that is known to work, the request under way and how far it got, and
 * the results of earlier requests. Every build reads the same file. It is written before each step, so that a program
 * that starts after a crash knows the step.
 */
import type { Log } from "@bureau/kit/log";
import { readIfPresent, writeDurably } from "@bureau/os/durable-file";
import { decodeState, encodeState, isTooNew } from "@bureau/os/state-format";
import {
  type MachineVersion,
  upgradeSteps,
  VERSION_HISTORY_MAX,
  VersionRequestResultSchema,
} from "@bureau/schema/events";
import * as v from "valibot";

/** A request for a build, from the machine's configuration. */
const UpgradeRequestSchema = v.object({
  request_id: v.string(),
  /** The folder of the build. */
  path: v.string(),
  requested_by: v.optional(v.string()),
  requested_at: v.optional(v.string()),
});
export type UpgradeRequest = v.InferOutput<typeof UpgradeRequestSchema>;

const CurrentSchema = v.object({
  request: UpgradeRequestSchema,
  step: v.picklist(upgradeSteps),
  /** Milliseconds since the epoch. */
  started_at: v.number(),
  /** The build that ran when the upgrade was requested. */
  from: v.string(),
  version: v.optional(v.string()),
  /** The daemon differs in the new build, so it replaces itself. */
  daemon_changes: v.boolean(),
  /** Principals whose program ran at the start of the request: the launcher must still know each afterwards. */
  sandboxes: v.array(v.string()),
  /** How often an unchanged daemon was started while the new launcher was on trial. */
  resumed: v.optional(v.number()),
});
export type CurrentUpgrade = v.InferOutput<typeof CurrentSchema>;

const UpgradeStateSchema = v.object({
  /** The target of the boot link. */
  confirmed: v.optional(v.object({ path: v.string(), version: v.string() })),
  previous: v.optional(v.string()),
  current: v.optional(CurrentSchema),
  /** Requests that were cut off without a fault of their build, and how often. */
  cut_off: v.optional(v.object({ request_id: v.string(), count: v.number() })),
  /** Failed requests; never retried. */
  failed: v.array(v.object({ request_id: v.string(), content: v.string() })),
  history: v.array(VersionRequestResultSchema),
});
export type UpgradeState = v.InferOutput<typeof UpgradeStateSchema>;

export const noUpgrades: UpgradeState = { failed: [], history: [] };

/**
 * An unreadable file counts as none: no request is under way, and none is known to have failed.
 * @throws BureauError when it is of a format that this build does not know
 */
export function readUpgradeState(file: string, log: Log): UpgradeState {
  try {
    const text = readIfPresent(file);
    return text === undefined ? noUpgrades : decodeState("upgrade-state", UpgradeStateSchema, text, file);
  } catch (error) {
    if (isTooNew(error)) throw error;
    log.error("upgrade.state-unreadable", "cannot read the upgrade state; it is ignored", { file, error });
    return noUpgrades;
  }
}

export const writeUpgradeState = (file: string, state: UpgradeState): void =>
  writeDurably(file, encodeState("upgrade-state", state), 0o600);

/**
 * True when this request is already finished: it failed, which is final, or it is the last that succeeded. An earlier
 * request that succeeded may run again: without an id, a second request for an earlier build equals the first.
 */
export const isFinished = ({ failed, history }: UpgradeState, requestId: string): boolean =>
  failed.some(({ request_id }) => request_id === requestId) ||
  history.some(({ request_id, outcome }) => request_id === requestId && outcome !== "succeeded") ||
  history.find(({ outcome }) => outcome === "succeeded")?.request_id === requestId;

export type Outcome = {
  readonly outcome: "succeeded" | "rolled-back" | "refused";
  readonly reason?: string;
  /** Digest of the build's content, when it is known. */
  readonly content?: string;
};

/** The state after the request under way is finished. */
export function finished(
  state: UpgradeState,
  { outcome, reason, content }: Outcome,
  nowMs: number,
): UpgradeState {
  const { current, cut_off: _, ...rest } = state;
  if (current === undefined) return state;
  const { request, started_at, version, from } = current;
  const entry = {
    request_id: request.request_id,
    host_environment_path: request.path,
    ...(version === undefined ? {} : { version }),
    ...(request.requested_by === undefined ? {} : { requested_by: request.requested_by as never }),
    ...(request.requested_at === undefined ? {} : { requested_at: request.requested_at }),
    finished_at: new Date(nowMs).toISOString(),
    duration_ms: Math.max(0, Math.round(nowMs - started_at)),
    outcome,
    ...(reason === undefined ? {} : { reason }),
  };
  const failure = { request_id: request.request_id, content: content ?? "" };
  return {
    ...rest,
    ...(outcome === "succeeded" && request.path !== from
      ? { previous: from, confirmed: { path: request.path, version: version ?? "" } }
      : {}),
    failed: outcome === "succeeded" ? state.failed : [failure, ...state.failed].slice(0, VERSION_HISTORY_MAX),
    history: [entry, ...state.history].slice(0, VERSION_HISTORY_MAX),
  };
}

/**
 * The state with every failure that the machine published in its room and does not have on its disk: the disk may have
 * been too full, or have lost it. Returns the same object when there is none.
 */
export function recalled(state: UpgradeState, said: Pick<MachineVersion, "history">): UpgradeState {
  const under = state.current?.request.request_id;
  const lost = said.history.filter(
    ({ request_id, outcome }) =>
      outcome !== "succeeded" && request_id !== under && !isFinished(state, request_id),
  );
  if (lost.length === 0) return state;
  const failures = lost.map(({ request_id }) => ({ request_id, content: "" }));
  return {
    ...state,
    failed: [...failures, ...state.failed].slice(0, VERSION_HISTORY_MAX),
    history: [...lost, ...state.history].slice(0, VERSION_HISTORY_MAX),
  };
}

/** The state after the request under way was cut off: it starts again from its beginning. */
export function cutOff(state: UpgradeState, counts: boolean): UpgradeState {
  const { current, ...rest } = state;
  if (current === undefined) return state;
  const { request_id } = current.request;
  const before = state.cut_off?.request_id === request_id ? state.cut_off.count : 0;
  return { ...rest, cut_off: { request_id, count: before + (counts ? 1 : 0) } };
}
