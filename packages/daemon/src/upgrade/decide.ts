/**
 * What a daemon that starts has to do about an upgrade. Pure, from what was written before the last program ended. Every
 * daemon of every build asks this first, so every crash ends here.
 */
import type { WatchdogRecord } from "@bureau/os/watchdog-record";
import type { UpgradeState } from "./upgrade-state.ts";

export type Start =
  /** No request is under way. */
  | { readonly kind: "idle" }
  /** It was cut off, and nothing says that the new build is at fault: it starts again from its beginning. */
  | { readonly kind: "again"; readonly counts: boolean }
  /** This is the new daemon: it has to show that it works. */
  | { readonly kind: "prove" }
  /** The daemon is as it should be; the launcher's turn, or what is left to do after it. */
  | { readonly kind: "launcher" }
  | { readonly kind: "confirm" }
  /** This is the daemon from before: the new one said that it could not reach the homeserver. Can this one? */
  | { readonly kind: "judge"; readonly reason: string }
  /** This is the daemon from before, and the new one is at fault. */
  | { readonly kind: "rolled-back"; readonly reason: string };

/** The reason for a daemon that ended without giving one. */
export const ENDED = "the new daemon ended before it had proven itself";
/** A request that is cut off this often is given up. */
export const CUT_OFF_MAX = 3;

/** `self` is the build of the program that asks; `record` what {@link readWatchdogRecord} found. */
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
  // Nothing was executed yet, or the host itself went down: neither says anything about the new build.
  if (ours === undefined || ours.boot_id !== boot) return { kind: "again", counts: true };
  if (ours.blames === "stop") return { kind: "again", counts: false };
  if (ours.blames === "homeserver") return { kind: "judge", reason: ours.reason ?? ENDED };
  return { kind: "rolled-back", reason: ours.reason ?? ENDED };
}

const continueWith = (step: string): Start => ({ kind: step === "confirm" ? "confirm" : "launcher" });
