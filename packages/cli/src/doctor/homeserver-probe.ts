/** One unauthenticated question to a homeserver: does it answer, and what time does it have. */
import { egressTo } from "@bureau/kit/egress";
import { messageOf } from "@bureau/kit/errors";
import { path } from "@bureau/matrix/request";

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
    // A header of whole seconds says 12 for anything up to 12.999: its middle is compared with the middle of the wait.
    const skew = Number.isNaN(date) ? {} : { skewMs: date + 500 - (asked + answered) / 2 };
    if (!response.ok || typeof body !== "object" || body === null || !("versions" in body))
      return { url, ...skew, problem: `it answers ${response.status}, but not as a Matrix homeserver` };
    return { url, ...skew };
  } catch (error) {
    return { url, problem: messageOf(error) };
  }
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
  return fetch(`${base}/_matrix/client${below}`, {
    ...options,
    redirect: "error",
    signal: AbortSignal.timeout(ANSWER_MS_MAX),
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
  });
}
