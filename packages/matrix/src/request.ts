/**
 * One request to a homeserver. Every one has a deadline; every failure becomes a {@link MatrixError} that names the
 * request, never the token. Redirects are refused: a token follows nobody.
 */
import { messageOf } from "@bureau/kit/errors";
import { codeOfStatus, MatrixError } from "./matrix-error.ts";

/** How requests leave the process; the global `fetch` is one. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** Time for a call that is not a long poll (client deadline of the wire's section 12: 30 s). */
export const REQUEST_MS_MAX = 30_000;

export type MatrixRequest = {
  readonly homeserver: string;
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Below `root`, already escaped: use {@link path}. */
  readonly path: string;
  /** `/_matrix/client` when it is not given. */
  readonly root?: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly token?: string | undefined;
  readonly body?: unknown;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
  readonly fetch?: Fetch | undefined;
};

/** Builds a path: every value is escaped, so that an id with a slash stays one segment. */
export const path = (parts: TemplateStringsArray, ...values: string[]): string =>
  parts.reduce((built, part, index) => built + encodeURIComponent(values[index - 1] ?? "") + part);

/** The parsed JSON of a 2xx answer. @throws MatrixError */
export async function matrixRequest(request: MatrixRequest): Promise<unknown> {
  const act = `${request.method} ${request.path}`;
  const timeoutMs = request.timeoutMs ?? REQUEST_MS_MAX;
  const deadline = AbortSignal.timeout(timeoutMs);
  const signal = request.signal === undefined ? deadline : AbortSignal.any([deadline, request.signal]);
  let response: Response;
  let text: string;
  try {
    response = await (request.fetch ?? fetch)(urlOf(request), {
      method: request.method,
      headers: headersOf(request),
      redirect: "error",
      signal,
      ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
    });
    text = await response.text();
  } catch (error) {
    if (deadline.aborted)
      throw new MatrixError("timeout", `${act}: no answer from "${request.homeserver}" in ${timeoutMs} ms`);
    throw new MatrixError("unavailable", `${act}: cannot reach the homeserver "${request.homeserver}"`, {
      cause: messageOf(error),
      hint: "is the homeserver running, and is its address right?",
    });
  }
  const body = jsonOrUndefined(text);
  if (response.ok && body !== undefined) return body;
  throw refusal(act, response, body);
}

function urlOf(request: MatrixRequest): string {
  const query = Object.entries(request.query ?? {})
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`)
    .join("&");
  const base = request.homeserver.replace(/\/+$/u, "");
  return `${base}${request.root ?? "/_matrix/client"}${request.path}${query === "" ? "" : `?${query}`}`;
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

function refusal(act: string, response: Response, body: unknown): MatrixError {
  if (response.ok) return new MatrixError("failed", `${act}: the answer is not JSON`, { status: 200 });
  const fields: Record<string, unknown> = typeof body === "object" && body !== null ? { ...body } : {};
  const errcode = typeof fields["errcode"] === "string" ? fields["errcode"] : "";
  const reason = typeof fields["error"] === "string" ? fields["error"] : "";
  return new MatrixError(
    codeOfStatus(response.status),
    `${act}: ${[String(response.status), errcode, reason].filter((part) => part !== "").join(" ")}`,
    { errcode, status: response.status, retryAfterMs: retryAfter(fields, response), body },
  );
}

/** The header's seconds win over the older field, as the specification has it. */
function retryAfter(fields: Record<string, unknown>, response: Response): number | undefined {
  const header = Number(response.headers.get("retry-after") ?? Number.NaN);
  if (Number.isFinite(header) && header >= 0) return header * 1_000;
  const field = fields["retry_after_ms"];
  return typeof field === "number" && field >= 0 ? field : undefined;
}
