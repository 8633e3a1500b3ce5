/**
 * Staying up to date: /sync over and over, each answer handed on and waited for before the next is asked for, so that
 * nothing overtakes and the position never runs ahead of what was taken in. Errors are waited out with backoff; a
 * position that the homeserver does not know (it was restored from a backup, say) is given up for a new beginning;
 * only a session that was revoked ends the loop.
 */
import { type BackoffPolicy, delayMs, standardBackoff } from "@bureau/kit/backoff";
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { isRevoked, MatrixError } from "./matrix-error.ts";
import type { MatrixSession } from "./session.ts";
import type { SyncResponse } from "./sync-response.ts";

/** The homeserver holds a quiet /sync this long (wire facts, section 12.1). */
export const SYNC_POLL_MS = 30_000;

/** However long a homeserver asks us to stay away. */
const RETRY_AFTER_MS_MAX = 300_000;

export type SyncLoopOptions = {
  readonly session: Pick<MatrixSession, "sync">;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly filter?: unknown;
  readonly random?: () => number;
  readonly backoff?: BackoffPolicy;
  /** Takes in one answer; `initial` when it is the whole picture, not a change. What it throws ends the loop. */
  readonly onSync: (response: SyncResponse, initial: boolean) => Promise<void> | void;
  /** Told on each change, with the error that ended a connection. */
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
    try {
      response = await options.session.sync({
        since,
        // After an error, ask for what is there at once: it says sooner that we are connected again.
        timeoutMs: since === undefined || connected === false ? 0 : SYNC_POLL_MS,
        filter: options.filter,
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
    // Beginning anew always works, so it proves nothing: who goes on to refuse every position is asked ever more rarely.
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

/** At least the backoff's own delay: a homeserver that asks for no pause at all would be asked without end. */
function waitFor(error: unknown, attempt: number, options: SyncLoopOptions): number {
  const asked = (error instanceof MatrixError && error.retryAfterMs) || 0;
  const own = delayMs(options.backoff ?? standardBackoff, attempt, options.random);
  return Math.max(own, Math.min(asked, RETRY_AFTER_MS_MAX));
}
