/**
 * Accepts connections on a unix socket that stays open while no program accepts on it, so that it can be handed to
 * another program.
 */
import { chmodSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { BureauError } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { inTime } from "@bureau/kit/wait-for";
import { descriptorOf } from "./descriptor-of.ts";
import { FD_KEPT_LEAST } from "./exec.ts";
import { duplicate, listenAt, type PeerCredentials, peerCredentials } from "./posix.ts";
import { clearStaleSocket } from "./stale-socket.ts";

/** Time for cut connections to be reported as closed. */
const CLOSE_MS_MAX = 1_000;

/** A listening socket that no program accepts from at the moment. */
export type HandedSocket = { readonly fd: number };

/** The path of a socket to make, or an inherited listening descriptor. */
export type ListenPlace = { readonly path: string; readonly mode: number } | { readonly fd: number };

/** The peer's credentials, as the kernel recorded them at connect. */
export type Caller = PeerCredentials;

export type Acceptor = Disposable & {
  /** Stops accepting; resolves when every connection is closed. */
  stop(): Promise<void>;
  /** Stops accepting, and closes every connection that is still open. */
  cut(): Promise<void>;
  /** Keeps the listening socket open, also after `stop`; returns its descriptor. */
  keep(): number;
  /** Accepts again on the socket that was kept. */
  resume(): Promise<void>;
};

export type AcceptOptions = {
  readonly listen: ListenPlace;
  /** Connections beyond this number are closed at once. */
  readonly connectionsMax: number;
  /** A connection whose serving fails is closed. */
  readonly onConnection: (socket: Socket, caller: Caller) => Promise<void>;
  readonly log: Log;
};

/** Disposing removes the file of a socket that was made here. */
export async function startAccepting(options: AcceptOptions): Promise<Acceptor> {
  const { listen: where, log } = options;
  const connections = new Set<Socket>();
  const onConnection = (socket: Socket): void => {
    // Read and write failures end in "close", which all code here waits for.
    socket.on("error", () => socket.destroy());
    const caller = callerOf(socket);
    if (caller === undefined || connections.size >= options.connectionsMax) return void socket.destroy();
    connections.add(socket);
    socket.on("close", () => connections.delete(socket));
    options.onConnection(socket, caller).catch((error: unknown) => {
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
      // The runtime may not report that a connection closed. Its peer is gone, so do not wait.
      if (!(await inTime(closed, CLOSE_MS_MAX)))
        log.warn("socket.close-incomplete", "some connections were not reported as closed");
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

/** Undefined when the connection is already closed. */
function callerOf(socket: Socket): Caller | undefined {
  const fd = descriptorOf(socket);
  return fd === undefined ? undefined : peerCredentials(fd);
}

/**
 * A listening socket. At no moment does its file allow more than its mode. Replaces a stale file.
 * @throws BureauError `conflict` when a program answers there
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
