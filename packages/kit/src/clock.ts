/** Time, handed in, so that tests can turn it by hand. Everything that waits or stamps takes a `Clock`. */
export type Clock = {
  /** Milliseconds since the epoch: for stamps that others read. */
  now(): number;
  /** Milliseconds from an arbitrary start, never going back: for durations and deadlines. */
  monotonic(): number;
  /** Resolves after `ms`, or at once when `signal` aborts. Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
};

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const done = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal?.addEventListener("abort", done, { once: true });
    }),
};

/** RFC 3339 in UTC with seconds, the form of every stamp on the wire. */
export const timestamp = (clock: Clock): string =>
  new Date(clock.now()).toISOString().replace(/\.\d+Z$/, "Z");
