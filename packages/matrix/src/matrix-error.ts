/** A homeserver's refusal, or that it cannot be reached: the one error class that this package throws. */
import { BureauError, type ErrorCode } from "@bureau/kit/errors";

export class MatrixError extends BureauError {
  /** `M_FORBIDDEN` and the like; empty when the answer had none, or there was no answer. */
  readonly errcode: string;
  /** HTTP status; 0 when there was no answer. */
  readonly status: number;
  /** How long a 429 asks us to stay away, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** The parsed answer, for user-interactive authentication, which carries data in a 401. */
  readonly body: unknown;
  constructor(
    code: ErrorCode,
    message: string,
    details: {
      errcode?: string;
      status?: number;
      retryAfterMs?: number | undefined;
      body?: unknown;
      hint?: string;
      cause?: unknown;
    } = {},
  ) {
    super(code, message, {
      ...(details.hint === undefined ? {} : { hint: details.hint }),
      cause: details.cause,
    });
    this.name = "MatrixError";
    this.errcode = details.errcode ?? "";
    this.status = details.status ?? 0;
    this.retryAfterMs = details.retryAfterMs;
    this.body = details.body;
  }
}

/** Our code for a refusal. Rate limits and 5xx are `unavailable`: a later request may succeed. */
export function refusedCode(status: number, errcode: string): ErrorCode {
  if (status === 429 || errcode === LIMIT_EXCEEDED || status >= 500) return "unavailable";
  if (status === 401) return "unauthorized";
  if (status === 403) return "forbidden";
  if (status === 404) return "not-found";
  return status === 413 ? "too-large" : "failed";
}

/** The user's next step after a refusal; empty where that depends on the act. */
export function hintOf(status: number, errcode: string): string {
  if (status === 429 || errcode === LIMIT_EXCEEDED)
    return "try again later; a server admin of Synapse can lift the limit: bureau matrix setup --admin-token-file PATH";
  if (errcode === "M_UNKNOWN_TOKEN" || errcode === "M_MISSING_TOKEN")
    return "the session has ended: bureau login";
  if (errcode === "M_USER_DEACTIVATED") return "the account is closed: bureau login as another user";
  if (status === 401 || status === 403)
    return "bureau whoami shows your account, bureau matrix room join your invitations; the administrator grants the right with bureau matrix user invite NAME --operator, or acts with --credential-file PATH";
  if (status === 413 || errcode === "M_TOO_LARGE") return "a Matrix event holds 64 KiB: make it smaller";
  if (status === 507 || errcode === "M_RESOURCE_LIMIT_EXCEEDED")
    return "free space on the homeserver's disk (df -h), then try again; agents keep running meanwhile";
  return status >= 500 ? "the homeserver failed: see its log, then try again" : "";
}

const LIMIT_EXCEEDED = "M_LIMIT_EXCEEDED";

/** True for refusals by a homeserver's rate limit, in the older and the newer form. */
export const isRateLimit = (error: unknown): error is MatrixError =>
  error instanceof MatrixError && (error.status === 429 || error.errcode === LIMIT_EXCEEDED);

/** True when trying the same again later makes sense: 429, 5xx, no connection, no answer in time. */
export const isTransient = (error: unknown): boolean =>
  error instanceof BureauError && (error.code === "unavailable" || error.code === "timeout");

/** True for the answers that mean this token will never work again. */
export const isRevoked = (error: unknown): boolean =>
  error instanceof MatrixError && (error.code === "unauthorized" || error.errcode === "M_UNKNOWN_TOKEN");
