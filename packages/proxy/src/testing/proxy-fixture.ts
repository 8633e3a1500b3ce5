/** A proxy on real sockets in a temporary folder, and a raw HTTP client that sends a target unchanged. */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { silentLog } from "@bureau/os/testing/silent-log";
import { type ProxyStart, ProxyStartSchema } from "@bureau/schema/proxy-wire";
import * as v from "valibot";
import { startProxy } from "../proxy.ts";

export type Fixture = AsyncDisposable & {
  readonly socket: string;
  readonly adminSocket: string;
  /** Sends a request to the agent's socket. */
  ask(path: string, init?: RequestInit): Promise<Response>;
  /** Sends a request to the admin socket. */
  admin(method: string, path: string, body?: unknown): Promise<Response>;
};

export async function startFixture(
  start: Omit<ProxyStart, "principal" | "socket_path" | "admin_socket_path"> = {},
  now: () => number = Date.now,
): Promise<Fixture> {
  const folder = mkdtempSync("/tmp/bp-");
  const socket = join(folder, "proxy.sock");
  const adminSocket = join(folder, "admin.sock");
  const config = v.parse(ProxyStartSchema, {
    principal: "agent/test",
    socket_path: socket,
    admin_socket_path: adminSocket,
    ...start,
  });
  const proxy = await startProxy(config, { log: silentLog, now });
  return {
    socket,
    adminSocket,
    ask: (path, init = {}) => fetch(`http://localhost${path}`, { ...init, unix: socket }),
    admin: (method, path, body) =>
      fetch(`http://localhost${path}`, {
        unix: adminSocket,
        method,
        body: body === undefined ? null : typeof body === "string" ? body : JSON.stringify(body),
      }),
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Sends `head` (CRLFs and the closing empty line are added) and returns the whole answer of a closed connection. */
export async function rawRequest(socket: string, ...head: string[]): Promise<string> {
  const done = Promise.withResolvers<string>();
  let text = "";
  await Bun.connect({
    unix: socket,
    socket: {
      open: (connection) => void connection.write(`${[...head, "Connection: close"].join("\r\n")}\r\n\r\n`),
      data(_connection, bytes) {
        text += bytes.toString("latin1");
      },
      close: () => done.resolve(text),
    },
  });
  return done.promise;
}

export type Seen = { method: string; path: string; headers: Record<string, string>; body: string };

/** An upstream that records each request and answers with it. */
export function startEcho(): Disposable & { readonly url: string; readonly seen: Seen[] } {
  const seen: Seen[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const what = {
        method: request.method,
        path: request.url.slice(request.url.indexOf("/", 7)),
        headers: Object.fromEntries(request.headers),
        body: await request.text(),
      };
      seen.push(what);
      return Response.json(what);
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    seen,
    [Symbol.dispose]: () => void server.stop(true),
  };
}
