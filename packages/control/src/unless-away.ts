/** Reads that tolerate a homeserver that is away for a moment. */
import { isBureauError } from "@bureau/kit/errors";

/** Whether trying again later makes sense. */
export const isAway = (error: unknown): boolean =>
  isBureauError(error) && (error.code === "unavailable" || error.code === "timeout");

/** The answer; undefined when the homeserver is away: ask again later. */
export async function unlessAway<T>(asked: Promise<T | undefined>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (isAway(error)) return undefined;
    throw error;
  }
}

/** The answer; undefined as soon as `signal` aborts, without waiting for a homeserver that hangs. */
export async function unlessAborted<T>(
  asked: Promise<T | undefined>,
  signal: AbortSignal,
): Promise<T | undefined> {
  const abort = Promise.withResolvers<undefined>();
  const onAbort = (): void => abort.resolve(undefined);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([asked, abort.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
