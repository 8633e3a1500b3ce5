/** A loop of a subsystem that cannot begin before something else has happened. */
import { aborted } from "@bureau/os/lifecycle";

/** Begins `loop` with what `ready` resolves to; never begins it when `signal` aborts first. */
export const loopAfter =
  <T>(ready: Promise<NonNullable<T>>, loop: (value: T, signal: AbortSignal) => Promise<unknown>) =>
  async (signal: AbortSignal): Promise<void> => {
    const value = await Promise.race([ready, aborted(signal)]);
    if (value !== undefined) await loop(value, signal);
  };
