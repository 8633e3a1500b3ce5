/** Following something through a homeserver that may be away for a moment, which says nothing about what is followed. */
import { isBureauError } from "@bureau/kit/errors";

/** Whether trying again later makes sense. */
export const isAway = (error: unknown): boolean =>
  isBureauError(error) && (error.code === "unavailable" || error.code === "timeout");

/** What was asked; undefined when the homeserver is away, to be asked again later. */
export async function unlessAway<T>(asked: Promise<T | undefined>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (isAway(error)) return undefined;
    throw error;
  }
}

/** What was asked; undefined once `signal` aborts, though a homeserver that hangs may answer for a long time yet. */
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
