/** Sends one request to a CBOR socket and reads its answer: see cbor-server.ts. */
import { decodeCbor } from "@bureau/kit/cbor";
import { encodeCbor } from "@bureau/kit/encode-cbor";
import { BureauError, type ErrorCode } from "@bureau/kit/errors";
import { parse } from "@bureau/schema/parse";
import { boolean, type GenericSchema, type InferOutput, object, optional, string, unknown } from "valibot";
import { dial, type Peer } from "./dial.ts";
import { readCbor } from "./read-cbor.ts";

/** Default time for an answer (wire facts, section 6.1). */
const RESPONSE_MS_MAX = 45_000;

const ResponseSchema = object({
  ok: boolean(),
  error: optional(string()),
  code: optional(string()),
  hint: optional(string()),
  data: optional(unknown()),
});

export type CallOptions = Peer & {
  /** Time for the answer; `"none"` waits until the signal aborts. */
  readonly timeoutMs?: number | "none";
  readonly signal?: AbortSignal;
};

/**
 * Sends one request and returns the parsed `data` of its answer.
 * @throws BureauError `unavailable` when no program answers, else with the code the other side gave
 */
export async function callCbor<const Schema extends GenericSchema>(
  path: string,
  request: Readonly<Record<string, unknown>> & { readonly action: string },
  result: Schema,
  options: CallOptions,
): Promise<InferOutput<Schema>> {
  const socket = await dial(path, options);
  const abort = (): void => void socket.destroy();
  options.signal?.addEventListener("abort", abort, { once: true });
  try {
    if (options.signal?.aborted) abort();
    const waitMs = options.timeoutMs === "none" ? 2 ** 31 - 1 : (options.timeoutMs ?? RESPONSE_MS_MAX);
    const answer = readCbor(socket, waitMs, `${options.peer} response`, "unavailable");
    socket.write(encodeCbor(request));
    const response = parse(ResponseSchema, decodeCbor(await answer), `${options.peer} response`);
    if (!response.ok) throw remoteError(response, options.peer, request.action);
    return parse(result, response.data, `${options.peer} response to ${request.action}`);
  } finally {
    options.signal?.removeEventListener("abort", abort);
    socket.destroy();
  }
}

const knownCodes: ReadonlySet<string> = new Set<ErrorCode>([
  "invalid-input",
  "not-found",
  "conflict",
  "forbidden",
  "unauthorized",
  "unavailable",
  "timeout",
  "too-large",
  "unsupported",
  "failed",
]);

function remoteError(
  response: { error?: string | undefined; code?: string | undefined; hint?: string | undefined },
  peer: string,
  actionName: string,
): BureauError {
  const code =
    response.code !== undefined && knownCodes.has(response.code) ? (response.code as ErrorCode) : "failed";
  return new BureauError(code, response.error ?? `the ${peer} refused ${actionName}`, {
    hint: response.hint ?? "",
  });
}
