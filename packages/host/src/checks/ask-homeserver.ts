/** One unauthenticated request to a homeserver: whether it answers, and its time. */
import { messageOf } from "@bureau/kit/errors";
import { limitWhileTurning } from "@bureau/kit/wait-for";
import { path } from "@bureau/matrix/request";
import { egressTo } from "@bureau/os/egress";
import { skewOf } from "./clock-skew.ts";

export type HomeserverAnswer = {
  readonly url: string;
  /** Undefined when it answered as a homeserver. */
  readonly problem?: string;
  /** Its clock minus ours, in milliseconds; the header has whole seconds. */
  readonly skewMs?: number;
};

/** The whole doctor must be quick. */
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

export type AliasAnswer = "exists" | "missing" | "unknown";

/** Whether a room has this alias; a homeserver may require a token for that. */
export async function askAlias(url: string, alias: string, token?: string): Promise<AliasAnswer> {
  try {
    const response = await ask(url, path`/v3/directory/room/${alias}`, token);
    return response.ok ? "exists" : response.status === 404 ? "missing" : "unknown";
  } catch {
    return "unknown";
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
