/** What a homeserver refused, or that it could not be reached, as the one error class everything here matches on. */
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

/** Which of our codes an HTTP status is: 401, 403 and 404 by name, 429 and 5xx may pass, the rest will not. */
export function codeOfStatus(status: number): ErrorCode {
  if (status === 401) return "unauthorized";
  if (status === 403) return "forbidden";
  if (status === 404) return "not-found";
  if (status === 413) return "too-large";
  return status === 429 || status >= 500 ? "unavailable" : "failed";
}

/** True when trying the same again later makes sense: 429, 5xx, no connection, no answer in time. */
export const isTransient = (error: unknown): boolean =>
  error instanceof BureauError && (error.code === "unavailable" || error.code === "timeout");

/** True for the answers that mean this token will never work again. */
export const isRevoked = (error: unknown): boolean =>
  error instanceof MatrixError && (error.code === "unauthorized" || error.errcode === "M_UNKNOWN_TOKEN");
