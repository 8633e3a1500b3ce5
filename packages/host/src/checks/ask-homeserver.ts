/** One unauthenticated question to a homeserver: does it answer, and what time does it have. */

import { messageOf } from "@bureau/kit/errors";
import { limitWhileTurning } from "@bureau/kit/wait-for";
import { path } from "@bureau/matrix/request";
import { egressTo } from "@bureau/os/egress";

export type HomeserverAnswer = {
  readonly url: string;
  /** Undefined when it answered as one does. */
  readonly problem?: string;
  /** Its clock minus ours, in milliseconds; the header has whole seconds. */
  readonly skewMs?: number;
};

/** The doctor as a whole is to be quick. */
const ANSWER_MS_MAX = 3_000;

export async function askHomeserver(url: string): Promise<HomeserverAnswer> {
  try {
    const asked = Date.now();
    const response = await ask(url, "/versions");
    const answered = Date.now();
    const body: unknown = await response.json().catch(() => undefined);
    const date = Date.parse(response.headers.get("date") ?? "");
    const skew = Number.isNaN(date) ? {} : { skewMs: skewOf(date, asked, answered) };
    if (!response.ok || typeof body !== "object" || body === null || !("versions" in body))
      return { url, ...skew, problem: `it answers ${response.status}, but not as a Matrix homeserver` };
    return { url, ...skew };
  } catch (error) {
    return { url, problem: messageOf(error) };
  }
}

/**
 * A header of whole seconds says 12 for anything up to 12.999: its middle is compared with the middle of the wait. What
 * a long wait alone explains is no difference of clocks.
 */
export function skewOf(date: number, asked: number, answered: number): number {
  const difference = date + 500 - (asked + answered) / 2;
  return Math.sign(difference) * Math.max(0, Math.abs(difference) - (answered - asked) / 2);
}

export type AliasAnswer = "exists" | "missing" | "untold";

/** Whether a room has this alias; homeservers may want a token for that. */
export async function askAlias(url: string, alias: string, token?: string): Promise<AliasAnswer> {
  try {
    const response = await ask(url, path`/v3/directory/room/${alias}`, token);
    return response.ok ? "exists" : response.status === 404 ? "missing" : "untold";
  } catch {
    return "untold";
  }
}

async function ask(url: string, below: string, token?: string): Promise<Response> {
  const { base, options } = egressTo(url);
  const stop = new AbortController();
  using _limit = limitWhileTurning(ANSWER_MS_MAX, () =>
    stop.abort(new Error(`no answer within ${ANSWER_MS_MAX / 1000} s`)),
  );
  return await fetch(`${base}/_matrix/client${below}`, {
    ...options,
    redirect: "error",
    signal: stop.signal,
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
  });
}
