import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Bridge, startBridge } from "@bureau/os/bridge";
import { type Fixture, startEcho, startFixture } from "./testing/proxy-fixture.ts";

const handshakes: Headers[] = [];
const closes: [code: number, reason: string][] = [];
const upstream = Bun.serve<undefined>({
  port: 0,
  hostname: "127.0.0.1",
  fetch(request, server) {
    handshakes.push(new Headers(request.headers));
    return server.upgrade(request) ? undefined : new Response("no", { status: 400 });
  },
  websocket: {
    maxPayloadLength: 64 * 1024 * 1024,
    // Sent with the handshake's answer: before the sandbox's side is open.
    open: (socket) => void socket.send("welcome"),
    message(socket, message) {
      if (message === "bye") socket.close(4321, "you asked");
      else socket.send(message);
    },
    close: (_socket, code, reason) => void closes.push([code, reason]),
  },
});
const echo = startEcho();
let proxy: Fixture;
let bridge: Bridge;
let base: string;

beforeAll(async () => {
  const url = `http://127.0.0.1:${upstream.port}/v1`;
  proxy = await startFixture({
    credentials: { KEY: "the-key" },
    services: {
      live: {
        upstream: url,
        inject_headers: { Authorization: "KEY" },
        auth_scheme: "bearer",
        strip_headers: ["Cookie"],
      },
      missing: { upstream: url, inject_headers: { Authorization: "ABSENT" } },
      plain: { upstream: echo.url },
    },
  });
  bridge = await startBridge({
    listen: { kind: "tcp", host: "127.0.0.1", port: 0 },
    connect: { kind: "unix", path: proxy.socket },
    onProblem: () => {},
  });
  if (bridge.listening.kind === "tcp") base = `ws://127.0.0.1:${bridge.listening.port}`;
});
afterAll(async () => {
  bridge[Symbol.dispose]();
  await proxy[Symbol.asyncDispose]();
  await upstream.stop(true);
  echo[Symbol.dispose]();
});

/** A client in the sandbox. `next` gives what it receives, in order; after that, how it was closed. */
async function client(path: string, options: object = {}) {
  const socket = new WebSocket(`${base}${path}`, options as never);
  socket.binaryType = "arraybuffer";
  const received: unknown[] = [];
  let wake = (): void => {};
  const put = (what: unknown): void => {
    received.push(what);
    wake();
  };
  socket.addEventListener("message", ({ data }) => put(data));
  socket.addEventListener("close", ({ code, reason }) => put([code, reason]));
  socket.addEventListener("error", () => {});
  const next = async (): Promise<unknown> => {
    while (received.length === 0)
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    return received.shift();
  };
  return { socket, next };
}

test("messages pass both ways, with the credential injected at the handshake", async () => {
  const { socket, next } = await client("/http/live/stream?a=1", {
    headers: { authorization: "Bearer mine", cookie: "a=b", "x-other": "kept" },
  });
  expect(await next()).toBe("welcome");
  const seen = handshakes.at(-1);
  expect(seen?.get("authorization")).toBe("Bearer the-key");
  expect(seen?.get("cookie")).toBeNull();
  expect(seen?.get("x-other")).toBe("kept");
  socket.send("text ✓");
  expect(await next()).toBe("text ✓");
  const big = new Uint8Array(1024 * 1024).map((_, index) => index % 251);
  socket.send(big);
  expect(new Uint8Array((await next()) as ArrayBuffer)).toEqual(big);
  socket.send("bye");
  expect(await next()).toEqual([4321, "you asked"]);
});

test("the sandbox's close reaches the upstream", async () => {
  const { socket, next } = await client("/http/live/x");
  await next();
  closes.length = 0;
  socket.close(4000, "done");
  expect(await next()).toEqual([4000, "done"]);
  while (closes.length === 0) await Bun.sleep(1);
  expect(closes).toEqual([[4000, "done"]]);
});

test("a handshake that is refused is an HTTP answer with the reason", async () => {
  const ask = async (path: string): Promise<[number, string]> => {
    const headers = {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
      "sec-websocket-version": "13",
    };
    const answer = await proxy.ask(path, { headers });
    return [answer.status, await answer.text()];
  };
  expect(await ask("/http/undeclared/x")).toEqual([404, expect.stringContaining("No upstream")]);
  expect(await ask("/http/missing/x")).toEqual([503, expect.stringContaining("ABSENT")]);
  expect(await ask("/http/plain/x")).toEqual([502, expect.stringContaining("does not accept one")]);
  expect(await ask("/_matrix/client/v3/sync")).toEqual([501, expect.stringContaining("declared upstreams")]);
  expect((await ask("/http/live/..%2fadmin"))[0]).toBe(400);
});

test("a proxy that stops closes its WebSockets on both sides", async () => {
  await using other = await startFixture({
    services: { live: { upstream: `http://127.0.0.1:${upstream.port}` } },
  });
  using way = await startBridge({
    listen: { kind: "tcp", host: "127.0.0.1", port: 0 },
    connect: { kind: "unix", path: other.socket },
    onProblem: () => {},
  });
  if (way.listening.kind !== "tcp") throw new Error("expected a TCP listener");
  const before = base;
  base = `ws://127.0.0.1:${way.listening.port}`;
  const { next } = await client("/http/live/x");
  base = before;
  await next();
  closes.length = 0;
  await other[Symbol.asyncDispose]();
  expect(await next()).toEqual([1001, ""]);
  while (closes.length === 0) await Bun.sleep(1);
  expect(closes).toEqual([[1001, ""]]);
});
