/**
 * Repeats /sync. Each response is handled before the next request, so that responses keep their order and the position
 * never passes an unhandled response. Waits after an error, with backoff. Starts again without a position that the
 * homeserver does not know (after it was restored from a backup, for example). Only a revoked session ends the loop.
 */
import { type BackoffPolicy, delayMs, standardBackoff } from "@bureau/kit/backoff";
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { isRevoked, MatrixError } from "./matrix-error.ts";
import type { MatrixSession } from "./session.ts";
import type { SyncResponse } from "./sync-response.ts";

/** The homeserver holds a quiet /sync this long (wire facts, section 12.1). */
const SYNC_POLL_MS = 30_000;

/** Time for an answer with the whole state: after an outage a homeserver gets such requests of all machines at once. */
const WHOLE_STATE_MS_MAX = 120_000;

/** Longest wait, also when the homeserver asks for more. */
const RETRY_AFTER_MS_MAX = 300_000;

export type SyncLoopOptions = {
  readonly session: Pick<MatrixSession, "sync">;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly filter?: unknown;
  /** In place of `filter` for requests without a position. */
  readonly initialFilter?: unknown;
  readonly random?: () => number;
  readonly backoff?: BackoffPolicy;
  /** Handles one response; `initial` when it holds the whole state, not changes. What it throws ends the loop. */
  readonly onSync: (response: SyncResponse, initial: boolean) => Promise<void> | void;
  /** Called when the connection is lost, with the error, and when it is back. */
  readonly onConnection?: (connected: boolean, error?: unknown) => void;
};

/** Resolves when `signal` aborts. @throws BureauError `unauthorized` when the session was revoked */
export async function runSyncLoop(options: SyncLoopOptions): Promise<void> {
  let since: string | undefined;
  let attempt = 0;
  let connected: boolean | undefined;
  const report = (now: boolean, error?: unknown): void => {
    if (connected !== now) options.onConnection?.(now, error);
    connected = now;
  };
  while (!options.signal.aborted) {
    let response: SyncResponse;
    const isInitial = since === undefined;
    try {
      response = await options.session.sync({
        since,
        // After an error, do not wait for changes: an immediate answer shows sooner that the homeserver is back.
        timeoutMs: isInitial || connected === false ? 0 : SYNC_POLL_MS,
        filter: (isInitial ? options.initialFilter : undefined) ?? options.filter,
        ...(isInitial ? { answerMs: WHOLE_STATE_MS_MAX } : {}),
        signal: options.signal,
      });
    } catch (error) {
      if (options.signal.aborted) return;
      if (endsSession(error))
        throw new BureauError("unauthorized", "The homeserver no longer accepts this session", {
          cause: error,
        });
      if (refusesPosition(error)) since = undefined;
      report(false, error);
      await options.clock.sleep(waitFor(error, attempt++, options), options.signal);
      continue;
    }
    // A sync without a position always works and proves nothing: the backoff continues while every position is refused.
    if (since !== undefined) attempt = 0;
    report(true);
    await options.onSync(response, since === undefined);
    since = response.nextBatch;
  }
}

/** Being forbidden to sync means the account is closed or locked: no retry helps (wire facts, section 9.15). */
const endsSession = (error: unknown): boolean =>
  isRevoked(error) || (error instanceof MatrixError && error.errcode === "M_FORBIDDEN");

/** What a homeserver answers to a `since` that it never gave. Without one, this is an error like any other. */
const refusesPosition = (error: unknown): boolean =>
  error instanceof MatrixError && error.status === 400 && error.errcode === "M_INVALID_PARAM";

/** At least the backoff's own delay, also when the homeserver asks for no pause. */
function waitFor(error: unknown, attempt: number, options: SyncLoopOptions): number {
  const asked = (error instanceof MatrixError && error.retryAfterMs) || 0;
  const own = delayMs(options.backoff ?? standardBackoff, attempt, options.random);
  return Math.max(own, Math.min(asked, RETRY_AFTER_MS_MAX));
}
