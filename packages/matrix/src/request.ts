/**
 * One request to a homeserver. Each has a deadline; each failure becomes a {@link MatrixError} that names the act, never
 * the token. Refuses redirects, so that a token reaches no other server. Retries a rate-limited request when the homeserver
 * allows it.
 */
import { systemClock } from "@bureau/kit/clock";
import { isBureauError, messageOf } from "@bureau/kit/errors";
import { retryAfterMs, waitOutRateLimit } from "@bureau/kit/rate-limit";
import { refusedBecause } from "@bureau/kit/refused-because";
import { urlAt } from "@bureau/schema/homeserver-address";
import { hintOf, isRateLimit, MatrixError, refusedCode } from "./matrix-error.ts";

/**
 * How requests leave the program: a browser's `fetch`, or one that knows sockets and forward proxies (`@bureau/os/egress`).
 * The URL of a homeserver on a socket is `http+unix://SOCKET/…` (`schema/homeserver-address`). A BureauError that it throws
 * reaches the caller as it is.
 */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** A homeserver, and the way to it. */
export type Server = {
  /** A URL, or `unix:/PATH`. */
  readonly homeserver: string;
  readonly fetch: Fetch;
};

/** Time for a call that is not a long poll (client deadline of the wire's section 12: 30 s). */
export const REQUEST_MS_MAX = 30_000;

/**
 * How long one request waits in all for a homeserver's rate limit. The longest that a stock one asks for is Synapse's
 * 333 s between two invitations of the same user.
 */
const RATE_LIMIT_MS_MAX = 600_000;

export type MatrixRequest = Server & {
  /** The act, in words that follow "Cannot": "join #a:b". */
  readonly act: string;
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Below `root`, already escaped: use {@link path}. */
  readonly path: string;
  /** `/_matrix/client` when it is not given. */
  readonly root?: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly token?: string | undefined;
  readonly body?: unknown;
  readonly timeoutMs?: number;
  /** Instead of {@link RATE_LIMIT_MS_MAX}; 0 for a caller that waits by its own rules. */
  readonly rateLimitMsMax?: number;
  readonly signal?: AbortSignal | undefined;
};

/** Builds a path: every value is escaped, so that an id with a slash stays one segment. */
export const path = (parts: TemplateStringsArray, ...values: string[]): string =>
  parts.reduce((built, part, index) => built + encodeURIComponent(values[index - 1] ?? "") + part);

/** The parsed JSON of a 2xx answer. @throws MatrixError */
export const matrixRequest = (request: MatrixRequest): Promise<unknown> =>
  waitOutRateLimit(() => sendOnce(request), {
    what: request.act,
    maxMs: request.rateLimitMsMax ?? RATE_LIMIT_MS_MAX,
    clock: systemClock,
    signal: request.signal,
    limitOf: (error) => (isRateLimit(error) ? error : undefined),
  });

async function sendOnce(request: MatrixRequest): Promise<unknown> {
  const { act } = request;
  const timeoutMs = request.timeoutMs ?? REQUEST_MS_MAX;
  const deadline = AbortSignal.timeout(timeoutMs);
  const signal = request.signal === undefined ? deadline : AbortSignal.any([deadline, request.signal]);
  let response: Response;
  let text: string;
  try {
    response = await request.fetch(urlAt(request.homeserver, below(request)), {
      method: request.method,
      headers: headersOf(request),
      redirect: "error",
      signal,
      ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
    });
    text = await response.text();
  } catch (error) {
    if (isBureauError(error)) throw error;
    if (deadline.aborted)
      throw new MatrixError(
        "timeout",
        `Cannot ${act}: no answer from "${request.homeserver}" in ${timeoutMs} ms`,
        { hint: "bureau status shows whether the homeserver is up; then try again" },
      );
    throw new MatrixError(
      "unavailable",
      `Cannot ${act}: cannot reach the homeserver "${request.homeserver}"`,
      {
        cause: unreachableBecause(messageOf(error)),
        hint: "is the homeserver running, and is its address right? bureau status",
      },
    );
  }
  const body = jsonOrUndefined(text);
  if (response.ok && body !== undefined) return body;
  throw refusal(request, response, body);
}

function below(request: MatrixRequest): string {
  const query = Object.entries(request.query ?? {})
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`)
    .join("&");
  return `${request.root ?? "/_matrix/client"}${request.path}${query === "" ? "" : `?${query}`}`;
}

const headersOf = (request: MatrixRequest): Record<string, string> => ({
  ...(request.token === undefined ? {} : { authorization: `Bearer ${request.token}` }),
  ...(request.body === undefined ? {} : { "content-type": "application/json" }),
});

function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function refusal({ act }: MatrixRequest, response: Response, body: unknown): MatrixError {
  const { status } = response;
  if (response.ok) return new MatrixError("failed", `Cannot ${act}: the answer is not JSON`, { status });
  const fields: Record<string, unknown> = typeof body === "object" && body !== null ? { ...body } : {};
  const errcode = typeof fields["errcode"] === "string" ? fields["errcode"] : "";
  const reason = typeof fields["error"] === "string" ? fields["error"] : "";
  return new MatrixError(
    refusedCode(status, errcode),
    `Cannot ${act}: ${refusedBecause(status, errcode, reason)}`,
    {
      errcode,
      status,
      body,
      hint: hintOf(status, errcode),
      retryAfterMs: retryAfterMs(response.headers.get("retry-after"), fields, systemClock.now()),
    },
  );
}

/** Sentences for the kernel's error names; the runtime's own messages are for programmers. */
const unreachable: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  ECONNRESET: "it ended the connection",
  ENOENT: "there is no such socket",
  ENOTFOUND: "its host name is unknown",
  EAI_AGAIN: "the DNS lookup of its name failed",
  EHOSTUNREACH: "there is no route to that host",
  ENETUNREACH: "there is no route to that network",
  EPROTO: "it does not speak TLS",
};

function unreachableBecause(message: string): string {
  const name = /\bE[A-Z_]{4,}\b/u.exec(message)?.[0] ?? "";
  return Object.hasOwn(unreachable, name) ? `${unreachable[name]} (${name})` : message;
}
