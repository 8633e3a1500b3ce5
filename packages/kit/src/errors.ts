/**
 * The one error class for "the world failed": a closed `code`, a sentence that names the act and the value, and a
 * `hint` that is the next thing a person can do. Bugs are assertions and crash; expected answers are unions.
 */

/** Every way the world fails us. Scripts and the wire match on these, so they are only ever added to. */
export type ErrorCode =
  | "invalid-input" // a value from outside breaks its schema or grammar
  | "not-found"
  | "conflict" // it exists already, or is in a state that forbids the act
  | "forbidden"
  | "unauthorized" // a token or signature is not valid (any more)
  | "unavailable" // the other side is away; trying again later makes sense
  | "timeout"
  | "too-large"
  | "unsupported" // this host cannot do it (kernel, program, privilege)
  | "failed"; // the act was tried and did not succeed

export class BureauError extends Error {
  readonly code: ErrorCode;
  /** The next command or change that helps; empty when there is none. */
  readonly hint: string;
  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = "BureauError";
    this.code = code;
    this.hint = options.hint ?? "";
  }
}

export const isBureauError = (value: unknown): value is BureauError => value instanceof BureauError;

/** The message of anything thrown, with the messages of its causes behind it. */
export function messageOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  return thrown.cause === undefined ? thrown.message : `${thrown.message}: ${messageOf(thrown.cause)}`;
}

/** `ENOENT`, `ECONNREFUSED`, … of a system error. */
export const errnoOf = (thrown: unknown): string | undefined =>
  thrown instanceof Error && "code" in thrown && typeof thrown.code === "string" ? thrown.code : undefined;

/** For a branch the types exclude. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`);
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`);
}
