/**
 * Carries bytes between a listener and a target, TCP or unix on either side, without looking at them; except that a
 * caller may read what a client sends first, and choose the target by it.
 *
 * Invariants: at most one chunk waits per direction; its sender is paused until the chunk is written. An end of stream
 * passes through by itself, so half-closed connections work. A connection that breaks on one side is broken on the
 * other (a unix socket cannot distinguish a break from an end; TCP can). When a side ends and then closes, all its
 * bytes are still delivered; then the other side is closed too.
 */
import { chmodSync, lstatSync, rmSync } from "node:fs";
import { BureauError, errnoOf, isBureauError, messageOf } from "@bureau/kit/errors";

export type Endpoint =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

/** Connections beyond this are refused: each costs two descriptors, until both sides are closed. */
const CONNECTIONS_MAX = 1_024;
/**
 * After one side is gone, bytes from the other are read and discarded for this long. A socket that closes earlier
 * answers with a reset, and TCP then drops data that the peer has not read yet. Long enough for a busy reader; web
 * servers use about the same time.
 */
const LINGER_MS = 5_000;
/** For a client to send what its target is chosen by. */
const OPENING_MS_MAX = 10_000;
/** Sockets of services are open to their group (wire facts, section 1.7). */
const UNIX_MODE = 0o770;

/** `tcp:HOST:PORT` (`tcp:[::1]:80`) or `unix:/PATH`. @throws BureauError `invalid-input` */
export function parseEndpoint(text: string): Endpoint {
  if (text.startsWith("unix:/")) return { kind: "unix", path: text.slice("unix:".length) };
  const match = /^tcp:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/u.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535)
    throw new BureauError("invalid-input", `Invalid address "${text}"`, {
      hint: "tcp:HOST:PORT or unix:/ABSOLUTE/PATH",
    });
  return { kind: "tcp", host, port };
}

export const formatEndpoint = (endpoint: Endpoint): string =>
  endpoint.kind === "unix"
    ? `unix:${endpoint.path}`
    : `tcp:${endpoint.host.includes(":") ? `[${endpoint.host}]` : endpoint.host}:${endpoint.port}`;

export type Bridge = Disposable & {
  /** The address it listens on; the kernel's choice replaces port 0. */
  readonly listening: Endpoint;
};

/** One end of a bridged connection. */
type Side = {
  socket: Bun.Socket<Side> | undefined;
  /** The side that receives its bytes. */
  other: Side;
  /** Bytes not yet written to this side's socket; while there are any, the other side is paused. */
  waiting: Uint8Array | undefined;
  /** No more bytes follow for this socket: shut it down once `waiting` is written. */
  finishing: boolean;
  /** Its peer has sent an end of stream. */
  ended: boolean;
  /** It is closed, or was never connected. */
  gone: boolean;
  /** Set while the client's first bytes decide the target. */
  opening: Opening | undefined;
  /** Closes this side; set once the other is gone and all bytes are written to this one. */
  lingering: ReturnType<typeof setTimeout> | undefined;
  readonly pair: { readonly lingerMs: number; readonly over: () => void };
};

/** Reads the beginning of one connection. */
export type Opening = {
  /** Undefined: more bytes are needed. Rejects, or throws: the client gets {@link refuse} and the connection ends. */
  read(bytes: Uint8Array): Promise<Route> | undefined;
  /** The last bytes for a client whose opening was refused, or whose target cannot be reached. */
  refuse(error: unknown): Uint8Array;
};
export type Route = {
  readonly target: Target;
  /** Sent first, once the target is connected. */
  readonly toTarget: Uint8Array;
  readonly toClient: Uint8Array;
};

/** The target of one connection; disposed once it is connected, or has failed. */
export type Target = Endpoint & Partial<Disposable>;

export type BridgeOptions = {
  readonly listen: Endpoint;
  /** A function is called for each connection. */
  readonly connect: Endpoint | (() => Target) | { readonly opening: () => Opening };
  /** Mode of a unix socket that it listens on; {@link UNIX_MODE} by default. */
  readonly mode?: number;
  /** Called for each connection that could not be bridged. */
  readonly onProblem: (problem: BureauError) => void;
  /** {@link LINGER_MS} by default; tests use less. */
  readonly lingerMs?: number;
};

/** Listens until disposed. @throws BureauError `conflict`, `failed` when it cannot listen */
export async function startBridge(options: BridgeOptions): Promise<Bridge> {
  const open = new Set<Side>();
  const accept = {
    open(socket: Bun.Socket<Side>): void {
      const [near] = newPair({
        lingerMs: options.lingerMs ?? LINGER_MS,
        over: () => void open.delete(near),
      });
      near.socket = socket;
      socket.data = near;
      if (open.size >= CONNECTIONS_MAX) {
        options.onProblem(
          new BureauError("too-large", `more than ${CONNECTIONS_MAX} connections: refused one`),
        );
        return void socket.terminate();
      }
      open.add(near);
      if (typeof options.connect === "object" && "opening" in options.connect)
        beginOpening(near, options.connect.opening());
      else dialAtOnce(near, options.connect, options.onProblem);
    },
    ...handlers,
  };
  if (options.listen.kind === "unix") await removeStale(options.listen.path);
  const server = bind(options.listen, accept, options.mode ?? UNIX_MODE);
  return {
    listening: options.listen.kind === "unix" ? options.listen : { ...options.listen, port: portOf(server) },
    [Symbol.dispose]() {
      server.stop(true);
      if (options.listen.kind === "unix") rmSync(options.listen.path, { force: true });
    },
  };
}

const problemOf = (error: unknown): BureauError =>
  isBureauError(error) ? error : new BureauError("failed", `Cannot connect: ${messageOf(error)}`);

function dialAtOnce(
  near: Side,
  connect: Target | (() => Target),
  onProblem: BridgeOptions["onProblem"],
): void {
  near.socket?.pause();
  dial(connect, near.other).catch((error: unknown) => {
    onProblem(problemOf(error));
    leave(near.other);
    near.socket?.terminate();
  });
}

function beginOpening(near: Side, opening: Opening): void {
  near.opening = opening;
  near.lingering = setTimeout(() => near.socket?.terminate(), OPENING_MS_MAX);
}

/** Gives `bytes` to the opening of `near`; connects once it has chosen a target. */
function readOpening(near: Side, opening: Opening, bytes: Uint8Array): void {
  const far = near.other;
  const refuse = (error: unknown): void => {
    near.opening = undefined;
    leave(far);
    if (near.socket === undefined) return;
    near.finishing = true;
    send(near, opening.refuse(error));
    near.socket?.resume();
  };
  const connect = async (choosing: Promise<Route>): Promise<void> => {
    near.socket?.pause();
    const route = await choosing;
    clearTimeout(near.lingering);
    near.lingering = undefined;
    near.opening = undefined;
    if (near.socket === undefined) return leave(far);
    await dial(route.target, far, route);
  };
  try {
    // The runtime reuses its receive buffer.
    const choosing = opening.read(Uint8Array.from(bytes));
    if (choosing !== undefined) connect(choosing).catch(refuse);
  } catch (error) {
    refuse(error);
  }
}

function newPair(pair: Side["pair"]): [Side, Side] {
  const begun = {
    socket: undefined,
    waiting: undefined,
    opening: undefined,
    lingering: undefined,
    finishing: false,
    ended: false,
    gone: false,
    pair,
  };
  const near: Partial<Side> = {};
  const far: Partial<Side> = {};
  return [
    Object.assign(near, begun, { other: far as Side }),
    Object.assign(far, begun, { other: near as Side }),
  ];
}

const handlers = {
  data({ data: side }: Bun.Socket<Side>, bytes: Uint8Array): void {
    if (side.opening === undefined) send(side.other, bytes);
    else readOpening(side, side.opening, bytes);
  },
  drain({ data: side }: Bun.Socket<Side>): void {
    const { waiting } = side;
    side.waiting = undefined;
    if (waiting !== undefined) send(side, waiting);
    else if (side.finishing) finish(side);
    if (side.waiting === undefined) side.other.socket?.resume();
  },
  /** The peer sends no more; its bytes must still reach the other side. */
  end({ data: side }: Bun.Socket<Side>): void {
    side.ended = true;
    side.other.finishing = true;
    if (side.other.waiting === undefined) finish(side.other);
    if (side.other.gone && side.waiting === undefined) finish(side);
  },
  close({ data: side }: Bun.Socket<Side>): void {
    const { other } = side;
    leave(side);
    if (!side.ended) return void other.socket?.terminate();
    // All its bytes were read, also when the connection broke: deliver them. Output to it is dropped.
    other.socket?.resume();
    if (other.waiting === undefined) finish(other);
  },
  error(): void {
    // `close` follows and breaks the other side.
  },
};

/** Writes to `side`. Bytes that do not fit wait, and their sender is paused. */
function send(side: Side, bytes: Uint8Array): void {
  const { socket } = side;
  if (socket === undefined) return;
  const written = Math.max(0, socket.write(bytes));
  if (written < bytes.length) {
    // The runtime reuses its receive buffer, so waiting bytes are copied.
    side.waiting = Uint8Array.from(bytes.subarray(written));
    side.other.socket?.pause();
  } else if (side.finishing) finish(side);
}

/** All bytes are written to `side`: shuts it down, and closes it once its peer has ended or the other side is gone. */
function finish(side: Side): void {
  side.socket?.shutdown();
  if (side.ended) side.socket?.end();
  else if (side.other.gone && !side.gone)
    side.lingering ??= setTimeout(() => side.socket?.end(), side.pair.lingerMs);
}

function leave(side: Side): void {
  side.gone = true;
  side.socket = undefined;
  side.waiting = undefined;
  clearTimeout(side.lingering);
  if (side.other.gone) side.pair.over();
}

async function dial(connect: Target | (() => Target), side: Side, first?: Route): Promise<void> {
  const target: Target = typeof connect === "function" ? connect() : connect;
  try {
    await dialEndpoint(target, side, first);
  } catch (error) {
    throw new BureauError(
      "unavailable",
      `Cannot connect to ${formatEndpoint(target)}: ${errnoOf(error) ?? messageOf(error)}`,
    );
  } finally {
    target[Symbol.dispose]?.();
  }
}

async function dialEndpoint(endpoint: Endpoint, side: Side, first: Route | undefined): Promise<void> {
  const common = {
    data: side,
    allowHalfOpen: true,
    socket: {
      ...handlers,
      open(socket: Bun.Socket<Side>): void {
        side.socket = socket;
        const near = side.other.socket;
        if (near === undefined) return void socket.terminate();
        if (first !== undefined) {
          send(side.other, first.toClient);
          send(side, first.toTarget);
        }
        if (side.waiting === undefined) near.resume();
      },
    },
  };
  if (endpoint.kind === "unix") await Bun.connect<Side>({ ...common, unix: endpoint.path });
  else await Bun.connect<Side>({ ...common, hostname: endpoint.host, port: endpoint.port });
}

type Listener = Bun.TCPSocketListener<Side> | Bun.UnixSocketListener<Side>;

function bind(endpoint: Endpoint, socket: Bun.SocketHandler<Side>, mode: number): Listener {
  try {
    if (endpoint.kind === "tcp")
      return Bun.listen<Side>({ hostname: endpoint.host, port: endpoint.port, allowHalfOpen: true, socket });
    const before = process.umask(0o777 & ~mode);
    try {
      const server = Bun.listen<Side>({ unix: endpoint.path, allowHalfOpen: true, socket });
      chmodSync(endpoint.path, mode);
      return server;
    } finally {
      process.umask(before);
    }
  } catch (error) {
    throw new BureauError(
      errnoOf(error) === "EADDRINUSE" ? "conflict" : "failed",
      `Cannot listen on ${formatEndpoint(endpoint)}: ${errnoOf(error) ?? messageOf(error)}`,
    );
  }
}

const portOf = (server: Listener): number => ("port" in server ? server.port : 0);

/** Removes a stale socket. @throws BureauError `conflict` when a program answers there, or the file is not a socket */
async function removeStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  const conflict = (reason: string): BureauError =>
    new BureauError("conflict", `Cannot listen on "${path}": ${reason}`);
  if (!found.isSocket()) throw conflict("it exists and is not a socket");
  const alive = await Bun.connect({ unix: path, socket: { data() {} } }).then(
    (socket) => {
      socket.end();
      return true;
    },
    () => false,
  );
  if (alive) throw conflict("another process answers there");
  rmSync(path, { force: true });
}
