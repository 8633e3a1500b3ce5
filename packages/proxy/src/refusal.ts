/**
 * Renders a refusal for the caller. Code throws a `BureauError`; the router catches it and renders it in the form of the
 * API that the caller used (wire facts, section 7.2): JSON with an errcode for Matrix, the form of a command result for
 * the rest of `/v1`, plain text for `/http`.
 */
import { BureauError, type ErrorCode, messageOf } from "@bureau/kit/errors";
import { InputError } from "@bureau/schema/parse";
import type { Refused } from "./refusals.ts";

export type Surface = "matrix" | "v1" | "http";

/** `unauthorized` is 503 because the proxy lacks the credential: no other request of the caller would succeed. */
const statuses: Record<ErrorCode, number> = {
  "invalid-input": 400,
  "not-found": 404,
  conflict: 409,
  forbidden: 403,
  unauthorized: 503,
  unavailable: 502,
  timeout: 504,
  "too-large": 413,
  unsupported: 501,
  failed: 500,
};

const errcodes: Record<ErrorCode, string> = {
  "invalid-input": "M_INVALID_PARAM",
  "not-found": "M_UNRECOGNIZED",
  conflict: "M_UNKNOWN",
  forbidden: "M_FORBIDDEN",
  unauthorized: "M_UNKNOWN",
  unavailable: "M_UNKNOWN",
  timeout: "M_UNKNOWN",
  "too-large": "M_TOO_LARGE",
  unsupported: "M_UNRECOGNIZED",
  failed: "M_UNKNOWN",
};

export const statusOf = (code: ErrorCode): number => statuses[code];

/** A reply for `thrown`. Hides the text of an unexpected error, which may contain secrets. */
export function renderRefusal(surface: Surface, thrown: unknown): Response {
  const code = codeOf(thrown);
  const error = code === undefined ? "the proxy failed; see its log" : describe(thrown);
  const status = statusOf(code ?? "failed");
  if (surface === "http") return new Response(`${error}\n`, { status });
  if (surface === "matrix")
    return Response.json({ errcode: errcodeOf(thrown, code ?? "failed"), error }, { status });
  return Response.json({ exit_code: -1, stdout: "", stderr: "", error }, { status });
}

/** A denied act of the principal: the router notes it for the machine's audit log. */
export class Denied extends BureauError {
  constructor(
    readonly refused: Refused,
    message: string,
    options: { readonly code?: ErrorCode; readonly hint?: string } = {},
  ) {
    super(options.code ?? "forbidden", message, { hint: options.hint ?? "" });
  }
}

/** A refusal that carries the homeserver's own errcode. */
export class MatrixRefusal extends BureauError {
  constructor(
    code: ErrorCode,
    readonly errcode: string,
    message: string,
  ) {
    super(code, message);
  }
}

export function codeOf(thrown: unknown): ErrorCode | undefined {
  if (thrown instanceof BureauError) return thrown.code;
  return thrown instanceof InputError ? "invalid-input" : undefined;
}

const errcodeOf = (thrown: unknown, code: ErrorCode): string =>
  thrown instanceof MatrixRefusal ? thrown.errcode : errcodes[code];

function describe(thrown: unknown): string {
  const hint = thrown instanceof BureauError ? thrown.hint : "";
  return hint === "" ? messageOf(thrown) : `${messageOf(thrown)} (${hint})`;
}
