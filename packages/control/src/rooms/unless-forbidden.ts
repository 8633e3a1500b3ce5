/** Undefined for what the session may not read, or what does not exist. */
import { isBureauError } from "@bureau/kit/errors";

export async function unlessForbidden<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (isBureauError(error) && (error.code === "forbidden" || error.code === "not-found")) return undefined;
    throw error;
  }
}
