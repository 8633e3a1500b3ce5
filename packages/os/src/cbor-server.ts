/**
 * Request and response over a unix socket: one CBOR map each way, one request a connection (wire facts, section 6).
 *
 * ```
 * request    {action, …fields}
 * response   {ok: true, data?}  or  {ok: false, error, code, hint?}
 * ```
 *
 * The launcher, the supervisor and every service use the same server and client (cbor-client.ts). Every request has a
 * size limit, a time to arrive and a time to be answered. A handler gets the caller's identity, and a signal that
 * aborts when the caller disconnects.
 */
import type { Socket } from "node:net";
import { decodeCbor } from "@bureau/kit/cbor";
import { encodeCbor } from "@bureau/kit/encode-cbor";
import { BureauError, type ErrorCode, messageOf } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { inTime } from "@bureau/kit/wait-for";
import { InputError, parse } from "@bureau/schema/parse";
import { RefError } from "@bureau/schema/refs";
import type { GenericSchema, InferOutput } from "valibot";
import { type Caller, type HandedSocket, type ListenPlace, startAccepting } from "./acceptor.ts";
import { descriptorOf } from "./descriptor-of.ts";
import { hasHungUp } from "./posix.ts";
import { MESSAGE_BYTES_MAX, readCbor } from "./read-cbor.ts";

/** A request must have arrived within this (section 6.1). */
const REQUEST_MS_MAX = 30_000;
/** Characters of an error that cross the wire. */
const ERROR_CHARS_MAX = 16_384;
/** An answered connection that its client does not read or close is cut after this (write timeout, section 6.1). */
const LINGER_MS_MAX = 10_000;
/** Interval between checks whether a client that closed its side has disconnected. */
const HANG_UP_CHECK_MS = 250;
/** Open connections beyond this are closed at once. */
const CONNECTIONS_MAX = 512;

export type ActionContext = {
  /** Aborts when the caller disconnects or the server closes. */
  readonly signal: AbortSignal;
  /** Aborts when the caller disconnects: the answer has no reader. */
  readonly gone: AbortSignal;
  readonly caller: Caller;
};

/** One action of a server: the schema of its fields, and its handler. The result of `run` is the `data`. */
export type Action = {
  readonly request: GenericSchema;
  readonly run: (request: never, context: ActionContext) => Promise<unknown>;
};

/** Types `run` by `request`. */
export const action = <Schema extends GenericSchema>(
  request: Schema,
  run: (request: InferOutput<Schema>, context: ActionContext) => Promise<unknown>,
): Action => ({ request, run });

export type CborServer = AsyncDisposable & {
  /**
   * Stops accepting. Resolves when every connection is answered and closed, or after `timeoutMs`; then the signal of
   * every handler that still runs has aborted.
   */
  drain(timeoutMs: number): Promise<void>;
  /**
   * Stops accepting and answers the requests under way. A client that connects from now on waits in the socket's queue.
   * Requests that only wait end at once. @returns the open socket, when that took no longer than `timeoutMs`
   */
  handOver(timeoutMs: number): Promise<HandedSocket | undefined>;
  /** Accepts again, also from the queue, after a {@link handOver} that was not used. */
  resume(): Promise<void>;
};

export type ServeOptions = {
  readonly listen: ListenPlace;
  readonly actions: Readonly<Record<string, Action>>;
  readonly log: Log;
  readonly requestMsMax?: number;
  readonly lingerMsMax?: number;
};

/**
 * Listens until disposed. A stale socket file is replaced. @throws BureauError `conflict` when a program answers there
 */
export async function serveCbor(options: ServeOptions): Promise<CborServer> {
  let closing = new AbortController();
  let atWork = 0;
  const counted = countActions(options.actions, (by) => {
    atWork += by;
  });
  const acceptor = await startAccepting({
    listen: options.listen,
    connectionsMax: CONNECTIONS_MAX,
    log: options.log,
    onConnection: (socket, caller) =>
      serveConnection(socket, caller, { ...options, actions: counted }, closing.signal),
  });
  return {
    async drain(timeoutMs) {
      if (!(await inTime(acceptor.stop(), timeoutMs))) closing.abort();
    },
    async handOver(timeoutMs) {
      const fd = acceptor.keep();
      const stopped = acceptor.stop();
      closing.abort();
      if (await inTime(stopped, timeoutMs)) return { fd };
      if (atWork > 0) return undefined;
      // The connections that are left have sent no request, or do not read their answer.
      await acceptor.cut();
      return { fd };
    },
    async resume() {
      closing = new AbortController();
      await acceptor.resume();
    },
    async [Symbol.asyncDispose]() {
      void acceptor.stop();
      closing.abort();
      await acceptor.cut();
      acceptor[Symbol.dispose]();
    },
  };
}

/** The same actions; `count` is called when one begins and when it ends. */
function countActions(
  actions: ServeOptions["actions"],
  count: (by: 1 | -1) => void,
): ServeOptions["actions"] {
  const counted = ({ request, run }: Action): Action => ({
    request,
    async run(input, context) {
      count(1);
      try {
        return await run(input, context);
      } finally {
        count(-1);
      }
    },
  });
  return Object.fromEntries(Object.entries(actions).map(([name, found]) => [name, counted(found)]));
}

async function serveConnection(
  socket: Socket,
  caller: Caller,
  options: ServeOptions,
  closing: AbortSignal,
): Promise<void> {
  const gone = new AbortController();
  socket.on("close", () => gone.abort());
  socket.once("end", () => watchHangUp(socket));
  const signal = AbortSignal.any([gone.signal, closing]);
  let response: Uint8Array;
  try {
    const bytes = await readCbor(socket, options.requestMsMax ?? REQUEST_MS_MAX, "request", "invalid-input");
    const data = await dispatch(options.actions, bytes, { signal, gone: gone.signal, caller });
    response = encodeResponse(data === undefined ? { ok: true } : { ok: true, data });
  } catch (error) {
    if (!(error instanceof BureauError || error instanceof InputError || error instanceof RefError))
      options.log.error("socket.action-failed", "action failed", { error, uid: caller.uid });
    const text = messageOf(error).slice(0, ERROR_CHARS_MAX);
    response = encodeResponse({ ok: false, error: text, ...codeAndHint(error) });
  }
  if (socket.destroyed) return;
  // Half open: a caller that closed its side after the request still gets its answer, within a limit.
  const linger = setTimeout(() => socket.destroy(), options.lingerMsMax ?? LINGER_MS_MAX);
  socket.on("close", () => clearTimeout(linger));
  socket.end(response);
}

/**
 * The runtime reports "end" both when a caller finished sending and when it died. Ask the kernel which, until the
 * connection closes: a caller that finished sending still waits for its answer.
 */
function watchHangUp(socket: Socket): void {
  const check = (): void => {
    const fd = descriptorOf(socket);
    // The runtime may not report that a connection closed meanwhile. Such a connection has no descriptor.
    if (fd === undefined || hasHungUp(fd)) socket.destroy();
  };
  const timer = setInterval(check, HANG_UP_CHECK_MS);
  socket.on("close", () => clearInterval(timer));
  check();
}

function encodeResponse(response: unknown): Uint8Array {
  const bytes = encodeCbor(response);
  if (bytes.length > MESSAGE_BYTES_MAX)
    throw new BureauError("too-large", `the response has ${bytes.length} bytes`);
  return bytes;
}

function codeAndHint(error: unknown): { code: ErrorCode; hint?: string } {
  if (error instanceof BureauError)
    return error.hint === "" ? { code: error.code } : { code: error.code, hint: error.hint };
  return { code: error instanceof InputError || error instanceof RefError ? "invalid-input" : "failed" };
}

async function dispatch(
  actions: ServeOptions["actions"],
  bytes: Uint8Array,
  context: ActionContext,
): Promise<unknown> {
  const request = decodeCbor(bytes);
  if (
    typeof request !== "object" ||
    request === null ||
    !("action" in request) ||
    typeof request.action !== "string"
  )
    throw new BureauError("invalid-input", "missing required field: action");
  const name = request.action;
  const found = Object.hasOwn(actions, name) ? actions[name] : undefined;
  if (found === undefined) throw new BureauError("invalid-input", `unknown action "${name}"`);
  // `action()` ensures that the schema that types `run` is the schema that parses here.
  return found.run(parse(found.request, request, `${name} request`) as never, context);
}
