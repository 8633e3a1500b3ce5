/**
 * The daemon becomes another version of itself: what is under way is finished, what can be said is said, and the socket
 * is handed on, so that nobody who asks something meanwhile is refused.
 */
import type { Clock } from "@bureau/kit/clock";
import type { Log } from "@bureau/kit/log";
import { waitFor } from "@bureau/kit/wait-for";
import { replaceProcess } from "@bureau/os/exec";
import { argumentsFor, readHostEnvironment, runtimeOf } from "@bureau/os/host-environment";
import { pingWatchdog } from "@bureau/os/systemd";
import type { Outbox } from "../event-messages/outbox.ts";
import { keepUnsent } from "../event-messages/unsent.ts";
import type { ObserveServer } from "../observe/observe-server.ts";
import type { Reconciler } from "../reconcile/reconciler.ts";

/** Starting a sandbox may be under way. */
export const PAUSE_MS_MAX = 30_000;
/** Why nothing is replaced when that was not enough. */
export const tooBusy = `starting or stopping a sandbox took more than ${PAUSE_MS_MAX / 1_000} s`;
/** For messages on their way; the next version sends those that are not sent by then. */
const MESSAGES_MS_MAX = 2_000;
const HAND_OVER_MS_MAX = 2_000;

export type BecomeDeps = {
  readonly reconciler: Pick<Reconciler, "pause" | "resume">;
  readonly outbox: Pick<Outbox, "waiting" | "unsent">;
  /** Where the next version finds what is not sent yet. */
  readonly unsentFile: string;
  readonly observe: Pick<ObserveServer, "handOver" | "resume">;
  /** The socket's file is the daemon's own, not systemd's. */
  readonly socketIsOurs: boolean;
  /** The daemon's command line, without the program. */
  readonly args: readonly string[];
  /** Until the other is executed this one may still be told to stop. */
  readonly signal: AbortSignal;
  readonly clock: Clock;
  readonly log: Log;
};

export type BecomeOptions = {
  /** The next program's environment has this, too. */
  readonly env?: Readonly<Record<string, string>>;
  /** Done when all that may take long is over. */
  readonly last?: () => Promise<unknown>;
  /** Messages are left to the other to send, which may be the one that can. */
  readonly leavesMessages?: true;
};

/** @returns only when it failed, with the reason; then everything goes on as before */
export async function become(path: string, deps: BecomeDeps, options: BecomeOptions = {}): Promise<string> {
  const { reconciler, outbox, observe, clock, log } = deps;
  try {
    if (!(await reconciler.pause(PAUSE_MS_MAX))) return tooBusy;
    if (options.leavesMessages !== true)
      await waitFor(async () => (outbox.waiting === 0 ? true : undefined), {
        timeoutMs: MESSAGES_MS_MAX,
        clock,
      });
    await options.last?.();
    const socket = await observe.handOver(HAND_OVER_MS_MAX);
    if (socket === undefined) return "requests were under way for too long";
    if (deps.signal.aborted) return "this daemon was told to stop";
    const next = readHostEnvironment(path);
    keepUnsent(deps.unsentFile, outbox.unsent, log);
    log.info("daemon.exec", "this daemon is replaced", { by: path });
    pingWatchdog();
    const errno = replaceProcess({
      file: runtimeOf(path),
      args: [...argumentsFor(next, "bureau-daemon"), ...deps.args],
      env: { ...process.env, ...options.env },
      socket: { fd: socket.fd, isOurs: deps.socketIsOurs },
    });
    return `"${runtimeOf(path)}" cannot be executed: ${errno}`;
  } finally {
    await observe.resume();
    reconciler.resume();
  }
}
