/**
 * One request to one upstream and its answer back, as bytes, without waiting for the end of either.
 *
 * What always holds: the proxy sets hop-by-hop headers and `Host` on both sides. It returns redirects instead of
 * following them, so that a credential reaches only its upstream. It does not decode bodies. When one side disconnects,
 * it aborts the other. There is no overall deadline, because long polls and event streams have none.
 */
import { BureauError, errnoOf } from "@bureau/kit/errors";
import type { EgressOptions } from "@bureau/os/egress";
import { type BodyPart, type BodyReader, type InFlight, whenOver } from "./in-flight.ts";

/** Headers that belong to one connection (wire facts, section 7.4, and RFC 9110, section 7.6.1). */
export const hopByHop: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** The caller's headers without those of the connection. Sets `accept-encoding`, or the runtime would add its own. */
export function requestHeaders(from: Headers): Headers {
  const headers = new Headers(from);
  dropHopByHop(headers);
  headers.delete("host");
  headers.delete("expect");
  if (!headers.has("accept-encoding")) headers.set("accept-encoding", "identity");
  return headers;
}

export type ForwardTarget = {
  /** For errors: `the homeserver`, `upstream "x"`. */
  readonly name: string;
  readonly url: string;
  readonly egress: EgressOptions;
  readonly inFlight: InFlight;
};

export type ForwardOptions = {
  readonly method: string;
  readonly headers: Headers;
  readonly body: ReadableStream<Uint8Array> | ArrayBuffer | string | null;
  readonly signal: AbortSignal;
};

/** Methods that carry no request content here, and change nothing: they may be sent twice. */
export const bodiless: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

/** @throws BureauError `unavailable` when the upstream has too many open requests, is unreachable, or disconnects before it answers */
export async function forward(upstream: ForwardTarget, options: ForwardOptions): Promise<Response> {
  const noBody = bodiless.has(options.method);
  if (noBody) options.headers.delete("content-length");
  const over = upstream.inFlight.begin(upstream.name);
  let response: Response;
  try {
    response = await fetch(upstream.url, {
      method: options.method,
      headers: options.headers,
      body: noBody ? null : options.body,
      signal: options.signal,
      redirect: "manual",
      decompress: false,
      ...upstream.egress,
    });
  } catch (error) {
    over();
    if (options.signal.aborted)
      throw new BureauError(
        "unavailable",
        `Cancelled the request to ${upstream.name}: the caller disconnected`,
      );
    throw new BureauError("unavailable", `Cannot reach ${upstream.name}: ${reasonOf(error)}`);
  }
  dropHopByHop(response.headers);
  return answer(response, over);
}

/** Calls `over` when the whole answer has arrived, or is cancelled. */
function answer(response: Response, over: () => void): Response {
  const { status, statusText, headers, body } = response;
  if (body === null) {
    over();
    return response;
  }
  const reader: BodyReader = body.getReader();
  const first = reader.read();
  const whole = wholeBody(first, headers.get("content-length"));
  if (whole !== undefined) over();
  return new Response(whole ?? whenOver(reader, first, over), { status, statusText, headers });
}

/**
 * The body, when all of it arrived together with the head: its first read is finished and as long as the head says. The
 * runtime sends such a body with the head in one write; a stream takes further writes.
 */
function wholeBody(first: Promise<BodyPart>, length: string | null): Uint8Array<ArrayBuffer> | undefined {
  if (length === null || Bun.peek.status(first) !== "fulfilled") return undefined;
  const part = Bun.peek(first);
  if (part instanceof Promise || part.done || part.value.length !== Number(length)) return undefined;
  return part.value;
}

/** Removes hop-by-hop headers, and those that the `Connection` header lists. */
function dropHopByHop(headers: Headers): void {
  const declared = headers.get("connection");
  if (declared !== null && declared !== "keep-alive")
    for (const name of declared.split(","))
      if (/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/u.test(name.trim())) headers.delete(name.trim());
  for (const name of hopByHop) headers.delete(name);
}

/** The runtime's code for a failed connection. Its message may quote the URL, so it is not passed on. */
function reasonOf(error: unknown): string {
  return errnoOf(error) ?? (error instanceof Error ? error.name : "failed");
}
