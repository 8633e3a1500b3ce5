/**
 * Follows one upgrade request to its end, as the machine reports it in Matrix. Daemon and launcher are replaced meanwhile,
 * so a silent machine has not failed before the time is up; nor has one whose homeserver is away for a moment.
 */
import type { Clock } from "@bureau/kit/clock";
import type { MatrixSession } from "@bureau/matrix/session";
import type { MachineVersion, UpgradeStep } from "@bureau/schema/events";
import type { ConfigPlace } from "../machines/config-parts.ts";
import { readDesiredVersion } from "../machines/machine-config.ts";
import { readMachineVersion } from "../machines/machine-version.ts";
import { unlessAborted, unlessAway } from "../unless-away.ts";

/** A step takes from tens of milliseconds to minutes; one small read at a time is no load. */
const POLL_MS = 300;

export type UpgradeOutcome = {
  /** `superseded`: another request replaced this one before the machine had finished. */
  readonly outcome: "succeeded" | "rolled-back" | "refused" | "timeout" | "superseded" | "interrupted";
  readonly duration_ms: number;
  readonly reason?: string;
};

export type FollowOptions = {
  readonly session: MatrixSession;
  readonly place: ConfigPlace;
  readonly requestId: string;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly onStep: (step: UpgradeStep) => void;
};

/** Waits for the end of one request, or for `signal`. Never throws because the homeserver is away. */
export async function followUpgrade(options: FollowOptions): Promise<UpgradeOutcome> {
  const { session, place, requestId, clock, signal } = options;
  const started = clock.monotonic();
  const spent = (): number => Math.round(clock.monotonic() - started);
  const ask = <T>(asked: Promise<T | undefined>): Promise<T | undefined> =>
    unlessAborted(unlessAway(asked), signal);
  for (;;) {
    const version = await ask(readMachineVersion(session, place));
    const ended = version && endOf(version, requestId);
    if (ended !== undefined) return ended;
    if (version?.request_id === requestId && version.step !== undefined) options.onStep(version.step);
    const desired = signal.aborted ? undefined : await ask(readDesiredVersion(session, place));
    if (desired !== undefined && desired.request_id !== requestId) {
      const reason = `${desired.requested_by ?? "another operator"} requested ${desired.host_environment_path ?? "another build"} meanwhile`;
      return { outcome: "superseded", duration_ms: spent(), reason };
    }
    if (signal.aborted) return { outcome: "interrupted", duration_ms: spent() };
    if (spent() >= options.timeoutMs)
      return { outcome: "timeout", duration_ms: spent(), reason: stateAtTimeout(version, requestId) };
    await clock.sleep(POLL_MS, signal);
  }
}

function endOf(version: MachineVersion, requestId: string): UpgradeOutcome | undefined {
  const entry = version.history.find(({ request_id }) => request_id === requestId);
  if (entry === undefined) return undefined;
  const { outcome, duration_ms, reason } = entry;
  return { outcome, duration_ms, ...(reason === undefined ? {} : { reason }) };
}

const stateAtTimeout = (version: MachineVersion | undefined, requestId: string): string =>
  version?.request_id === requestId && version.state === "upgrading"
    ? `it is still at the step "${version.step ?? "prefetch"}"`
    : "it has not begun: is its daemon running?";
