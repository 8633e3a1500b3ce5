/**
 * Request and response over a unix socket: one CBOR map each way, one request a connection (wire facts, section 6).
 *
 * ```
 * request    {action, …fields}
 * response   {ok: true, data?}  or  {ok: false, error, code, hint?}
 * ```
 *
 * The same server and client carry the launcher's socket, the supervisor's and every service's. Every request has a
 * size limit, a time to arrive and a time to be answered; a handler learns through its signal that the caller left.
 */
import { chmodSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { CborScanner, decodeCbor, encodeCbor } from "@bureau/kit/cbor";
import { BureauError, type ErrorCode, messageOf } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { inTime } from "@bureau/kit/wait-for";
import { InputError, parse } from "@bureau/schema/parse";
import { RefError } from "@bureau/schema/refs";
import { boolean, type GenericSchema, type InferOutput, object, optional, string, unknown } from "valibot";
import { dial, type Peer } from "./dial.ts";
import { duplicate, hasHungUp, listenAt } from "./posix.ts";
import { clearStaleSocket } from "./stale-socket.ts";

/** 1 MiB each way (section 6.1). */
export const MESSAGE_BYTES_MAX = 1024 * 1024;
/** A request must have arrived within this (section 6.1). */
const REQUEST_MS_MAX = 30_000;
/** Characters of an error that cross the wire. */
const ERROR_CHARS_MAX = 16_384;
/** Default time for an answer (section 6.1). */
const RESPONSE_MS_MAX = 45_000;
/** An answered connection that its caller does not read or close is cut after this (write timeout, section 6.1). */
const LINGER_MS_MAX = 10_000;
/** For connections that were cut to be seen as closed. */
const CLOSE_MS_MAX = 1_000;
/** How soon it is noticed that a caller who had closed only its side has gone altogether. */
const HANG_UP_CHECK_MS = 250;
/** Open connections beyond this are closed at once. */
const CONNECTIONS_MAX = 512;

export type ActionContext = {
  /** Aborts when the caller hangs up or the server closes. */
  readonly signal: AbortSignal;
  /** Aborts when the caller hangs up: nobody will hear what came of it. */
  readonly gone: AbortSignal;
};

/** One action of a server: the schema of its fields, and what it does. What `run` returns is the `data`. */
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
   * Stops accepting and resolves when every connection is answered and closed, or after `timeoutMs`: then the
   * handlers still at work have seen their signal abort.
   */
  drain(timeoutMs: number): Promise<void>;
  /**
   * Stops accepting and lets what was asked for be answered; whoever connects from now on waits in the socket's queue.
   * Requests that only wait are told to end at once. @returns the open socket, when that took no longer than `timeoutMs`
   */
  handOver(timeoutMs: number): Promise<HandedSocket | undefined>;
  /** Accepts again, also from the queue, when a {@link handOver} came to nothing. */
  resume(): Promise<void>;
};

/** A listening socket nobody accepts from at the moment. */
export type HandedSocket = { readonly fd: number };

/** The path of a socket to make, or an inherited listening descriptor. */
export type ListenPlace = { readonly path: string; readonly mode: number } | { readonly fd: number };

export type ServeOptions = {
  readonly listen: ListenPlace;
  readonly actions: Readonly<Record<string, Action>>;
  readonly log: Log;
  readonly requestMsMax?: number;
  readonly lingerMsMax?: number;
};

/**
 * Listens until disposed. A socket file nobody answers on is replaced; one that somebody does is a `conflict`.
 */
export async function serveCbor(options: ServeOptions): Promise<CborServer> {
  let closing = new AbortController();
  let atWork = 0;
  const counted = countActions(options.actions, (by) => {
    atWork += by;
  });
  const acceptor = await startAccepting({
    ...{ listen: options.listen, connectionsMax: CONNECTIONS_MAX, log: options.log },
    onConnection: (socket) => serveConnection(socket, { ...options, actions: counted }, closing.signal),
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
      // What is left has asked nothing, or does not take its answer.
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

/** The same actions; `count` is told when one begins and when it ends. */
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

export type Acceptor = Disposable & {
  /** Accepts no more; resolves when every connection has closed. */
  stop(): Promise<void>;
  /** {@link stop}, and closes every connection that is still open. */
  cut(): Promise<void>;
  /** Keeps the socket itself open over `stop` and everything else; returns it. */
  keep(): number;
  /** Accepts again on the socket that was kept. */
  resume(): Promise<void>;
};

export type AcceptOptions = {
  readonly listen: ListenPlace;
  /** More are closed at once. */
  readonly connectionsMax: number;
  /** A connection whose serving fails is closed. */
  readonly onConnection: (socket: Socket) => Promise<void>;
  readonly log: Log;
};

/**
 * Accepts connections on a socket that stays open while nobody accepts on it, so that it can be handed to another
 * program. Disposing removes the file of a socket that was made here.
 */
export async function startAccepting(options: AcceptOptions): Promise<Acceptor> {
  const { listen: where, log } = options;
  const connections = new Set<Socket>();
  const onConnection = (socket: Socket): void => {
    // Read and write failures end in "close", which is what everything here waits for.
    socket.on("error", () => socket.destroy());
    if (connections.size >= options.connectionsMax) return void socket.destroy();
    connections.add(socket);
    socket.on("close", () => connections.delete(socket));
    options.onConnection(socket).catch((error: unknown) => {
      log.error("socket.connection-failed", "a connection failed", { error });
      socket.destroy();
    });
  };
  let fd = "path" in where ? await makeSocket(where.path, where.mode) : where.fd;
  let kept: number | undefined;
  const open = async (): Promise<Server> => {
    const made = createServer({ allowHalfOpen: true }, onConnection);
    await new Promise<void>((resolve, reject) => {
      made.once("error", reject);
      made.listen({ fd }, resolve);
    });
    made.on("error", (error) => log.error("socket.failed", "socket failed", { error }));
    return made;
  };
  let server = await open();
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => (stopped ??= new Promise((resolve) => server.close(() => resolve())));
  return {
    stop,
    async cut() {
      const closed = stop();
      for (const socket of connections) socket.destroy();
      // The runtime may miss that a connection is closed; there is nobody left to wait for.
      if (!(await inTime(closed, CLOSE_MS_MAX)))
        log.warn("socket.close-incomplete", "not every connection was seen to close");
    },
    keep() {
      kept ??= duplicate(fd, FD_KEPT_LEAST);
      if (kept === undefined) throw new BureauError("failed", "Cannot keep a socket open: it is closed");
      return kept;
    },
    async resume() {
      if (kept === undefined) return;
      [fd, kept] = [kept, undefined];
      server = await open();
      stopped = undefined;
    },
    [Symbol.dispose]() {
      if ("path" in where) rmSync(where.path, { force: true });
    },
  };
}

/** Away from the few lowest numbers, one of which the next program expects its socket at. */
const FD_KEPT_LEAST = 10;

/**
 * A listening socket whose file is never open to more than its mode allows, not even for a moment; one that nobody
 * answers on is replaced. @throws BureauError `conflict` when somebody does
 */
async function makeSocket(path: string, mode: number): Promise<number> {
  await clearStaleSocket(path);
  const before = process.umask(0o177);
  try {
    const fd = listenAt(path);
    chmodSync(path, mode);
    return fd;
  } finally {
    process.umask(before);
  }
}

async function serveConnection(socket: Socket, options: ServeOptions, closing: AbortSignal): Promise<void> {
  const gone = new AbortController();
  socket.on("close", () => gone.abort());
  socket.once("end", () => watchHangUp(socket));
  const signal = AbortSignal.any([gone.signal, closing]);
  let response: Uint8Array;
  try {
    const bytes = await readValue(socket, options.requestMsMax ?? REQUEST_MS_MAX, "request", "invalid-input");
    const data = await dispatch(options.actions, bytes, { signal, gone: gone.signal });
    response = encodeResponse(data === undefined ? { ok: true } : { ok: true, data });
  } catch (error) {
    if (!(error instanceof BureauError || error instanceof InputError || error instanceof RefError))
      options.log.error("socket.action-failed", "action failed", { error });
    const text = messageOf(error).slice(0, ERROR_CHARS_MAX);
    response = encodeResponse({ ok: false, error: text, ...codeAndHint(error) });
  }
  if (socket.destroyed) return;
  // Half open, so that a caller who closed its side after the request still gets its answer; not for ever.
  const linger = setTimeout(() => socket.destroy(), options.lingerMsMax ?? LINGER_MS_MAX);
  socket.on("close", () => clearTimeout(linger));
  socket.end(response);
}

/**
 * The runtime's "end" comes alike from a caller that is done with sending and from one that has died: ask the kernel
 * which it is, until the connection closes. The first kind still waits for its answer.
 */
function watchHangUp(socket: Socket): void {
  const check = (): void => {
    const fd = descriptorOf(socket);
    // Of a connection that was closed meanwhile the runtime may say nothing; it has no descriptor then.
    if (fd === undefined || hasHungUp(fd)) socket.destroy();
  };
  const timer = setInterval(check, HANG_UP_CHECK_MS);
  socket.on("close", () => clearInterval(timer));
  check();
}

/** The runtime offers no public way to the descriptor of a connection. */
function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = "_handle" in socket ? socket._handle : undefined;
  if (typeof handle !== "object" || handle === null || !("fd" in handle)) return undefined;
  return typeof handle.fd === "number" && handle.fd >= 0 ? handle.fd : undefined;
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
  // The schema that types `run` is the one that parses here; `action()` tied the two together.
  return found.run(parse(found.request, request, `${name} request`) as never, context);
}

/** Reads one CBOR value. Rejects when it is too large, malformed, late, or cut off (with the code given for that). */
function readValue(socket: Socket, timeoutMs: number, what: string, cutOff: ErrorCode): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const scanner = new CborScanner();
    const chunks: Buffer[] = [];
    let size = 0;
    const finish = (error: BureauError | undefined, value?: Uint8Array): void => {
      clearTimeout(timer);
      socket.off("data", onData);
      // Stay in flowing mode so that a hang-up is noticed while the request is being handled.
      socket.resume();
      if (value !== undefined) resolve(value);
      else reject(error);
    };
    const fail = (code: ErrorCode, text: string): void => finish(new BureauError(code, text));
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      size += chunk.length;
      try {
        const length = scanner.push(chunk);
        if ((length ?? size) > MESSAGE_BYTES_MAX)
          fail("too-large", `the ${what} has more than ${MESSAGE_BYTES_MAX} bytes`);
        else if (length !== undefined) finish(undefined, Buffer.concat(chunks).subarray(0, length));
      } catch (error) {
        fail("invalid-input", `invalid ${what}: ${messageOf(error)}`);
      }
    };
    const timer = setTimeout(() => fail("timeout", `no complete ${what} within ${timeoutMs} ms`), timeoutMs);
    socket.on("data", onData);
    socket.once("end", () => fail(cutOff, `invalid ${what}: the connection ended within it`));
    socket.once("error", (error) => fail("unavailable", `the connection failed: ${messageOf(error)}`));
    socket.once("close", () => fail("unavailable", `the connection closed before the ${what} was complete`));
  });
}

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
 * @throws BureauError `unavailable` when nobody answers, else with the code the other side gave
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
    const answer = readValue(socket, waitMs, `${options.peer} response`, "unavailable");
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
