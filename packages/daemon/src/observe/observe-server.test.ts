import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import type { Stream } from "@bureau/os/stream";
import { Streams } from "@bureau/os/streams";
import { silentLog } from "@bureau/os/testing/silent-log";
import { OBSERVE_LINE_BYTES_MAX } from "@bureau/schema/observe-wire";
import { type ObserveAction, serveObserve } from "./observe-server.ts";

let folder: string;
let path: string;
let server: AsyncDisposable;
let streams: Streams;
const echo: ObserveAction = async (request) => ({ reply: { ok: true, principal: request.principal } });
const whoami: ObserveAction = async (_, caller) => ({ reply: { ok: true, caller } });
const upgrade: ObserveAction = async () => ({ stream: { protocol: "echo", state: null } });
/** Sends a greeting, and echoes its input. */
const protocols = {
  echo: (stream: Stream) => {
    stream.write(Buffer.from('{"ok":true}\n'));
    return {
      data: (bytes: Uint8Array) => void stream.write(bytes),
      ended: () => stream.end(),
      save: () => null,
    };
  },
};

beforeEach(async () => {
  folder = mkdtempSync("/tmp/bo-");
  path = join(folder, "observe.sock");
  streams = new Streams({ protocols, inherited: [], log: silentLog });
  server = await serveObserve({
    listen: { path, mode: 0o660 },
    actions: { echo, observe: upgrade, whoami },
    streams,
    log: silentLog,
  });
});
afterEach(async () => {
  streams[Symbol.dispose]();
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

async function answer(send: (socket: Socket) => void): Promise<string> {
  const socket = connect({ path });
  socket.on("error", () => {});
  send(socket);
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

test("answers a request line with a line, also when the request arrives in pieces", async () => {
  const text = await answer((socket) => {
    socket.write('{"action":"echo",');
    setImmediate(() => socket.write('"principal":"agent/ä"}\n'));
  });
  expect(text).toBe('{"ok":true,"principal":"agent/ä"}\n');
});

test.each([
  ["is not JSON", "hello\n", "invalid-input"],
  ["breaks its schema", '{"action":5}\n', "invalid-input"],
  ["has an unknown action", '{"action":"toString"}\n', "invalid-input"],
])("answers a request that %s with that error", async (_, line, code) => {
  expect(JSON.parse(await answer((socket) => socket.write(line)))).toMatchObject({ ok: false, code });
});

test("cuts off a line without an end", async () => {
  const text = await answer((socket) => socket.write("x".repeat(OBSERVE_LINE_BYTES_MAX + 1)));
  expect(JSON.parse(text)).toMatchObject({ ok: false, code: "too-large" });
});

test("no action means observe, and a connection that a stream takes over loses no byte", async () => {
  const text = await answer((socket) => socket.end('{"action":""}\nfirst bytes'));
  expect(text).toBe('{"ok":true}\nfirst bytes');
});

test("an action gets the process, the user and the group of its caller", async () => {
  const reply = JSON.parse(await answer((socket) => socket.write('{"action":"whoami"}\n')));
  expect(reply.caller).toEqual({ pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() });
});

test("only owner and group may open the socket, and a second server does not replace it", async () => {
  expect(statSync(path).mode & 0o777).toBe(0o660);
  await expect(
    serveObserve({ listen: { path, mode: 0o660 }, actions: {}, streams, log: silentLog }),
  ).rejects.toMatchObject({
    code: "conflict",
  });
});
