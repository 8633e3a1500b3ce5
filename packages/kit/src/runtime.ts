/** What every long-running part is handed: time, randomness and a log, so that tests replace them. */
import type { Clock } from "./clock.ts";
import type { Log } from "./log.ts";

export type Runtime = {
  readonly clock: Clock;
  /** Uniform in [0, 1), as `Math.random`: for jitter, never for secrets. */
  readonly random: () => number;
  readonly log: Log;
};
