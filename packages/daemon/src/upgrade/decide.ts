/**
 * What a starting daemon does about an upgrade. Pure: decides from the records that the last program wrote. Every
 * daemon of every build calls it first, so it handles every crash.
 */
import type { WatchdogRecord } from "@bureau/os/watchdog-record";
import type { UpgradeState } from "./upgrade-state.ts";

export type Start =
  /** No request is under way. */
  | { readonly kind: "idle" }
  /** It was cut off, and the new build is not known to be at fault: the request starts again from its beginning. */
  | { readonly kind: "again"; readonly counts: boolean }
  /** This is the new daemon: it must prove that it works. */
  | { readonly kind: "prove" }
  /** The daemon is done: next are the launcher and the steps after it. */
  | { readonly kind: "launcher" }
  | { readonly kind: "confirm" }
  /** This is the old daemon: the new one reported that it cannot reach the homeserver. Check whether this one can. */
  | { readonly kind: "judge"; readonly reason: string }
  /** This is the old daemon, and the new one is at fault. */
  | { readonly kind: "rolled-back"; readonly reason: string };

/** The reason for a daemon that ended without giving one. */
export const ENDED = "the new daemon ended before it had proven itself";
/** A request that is cut off this often fails. */
export const CUT_OFF_MAX = 3;

/** `self` is the build of the calling program; `record` is the result of {@link readWatchdogRecord}. */
export function decideAtStart(
  state: UpgradeState,
  record: WatchdogRecord | undefined,
  self: string,
  boot: string,
): Start {
  const { current } = state;
  if (current === undefined) return { kind: "idle" };
  const { step, from, request, daemon_changes: changes } = current;
  if (self !== request.path && self !== from)
    return { kind: "rolled-back", reason: `another build was started: "${self}"` };
  if (step === "prefetch" || step === "check") return { kind: "again", counts: true };
  const resumed = current.resumed ?? 0;
  if (!changes && step === "launcher" && resumed >= CUT_OFF_MAX)
    return {
      kind: "rolled-back",
      reason: `the daemon was started ${resumed} times while the new launcher was on trial`,
    };
  const isNew = self === request.path;
  if (isNew || !changes) return isNew && step === "daemon" ? { kind: "prove" } : continueWith(step);
  const ours = record?.request_id === request.request_id ? record : undefined;
  // Nothing was executed yet, or the host itself went down: neither is a fault of the new build.
  if (ours === undefined || ours.boot_id !== boot) return { kind: "again", counts: true };
  if (ours.blames === "stop") return { kind: "again", counts: false };
  if (ours.blames === "homeserver") return { kind: "judge", reason: ours.reason ?? ENDED };
  return { kind: "rolled-back", reason: ours.reason ?? ENDED };
}

const continueWith = (step: string): Start => ({ kind: step === "confirm" ? "confirm" : "launcher" });
