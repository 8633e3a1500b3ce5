import { afterEach, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { decodeCbor } from "@bureau/kit/cbor";
import { encodeCbor } from "@bureau/kit/encode-cbor";
import { BureauError } from "@bureau/kit/errors";
import * as v from "valibot";
import { callCbor } from "./cbor-client.ts";
import { action, type ServeOptions, serveCbor } from "./cbor-server.ts";
import { createLog } from "./log.ts";
import { identify, signalProcess } from "./process-table.ts";
import { MESSAGE_BYTES_MAX } from "./read-cbor.ts";
import { evalCommand } from "./runtime-command.ts";
import { clearStaleSocket } from "./stale-socket.ts";
import { silentLog } from "./testing/silent-log.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function socketPath(): string {
  const dir = mkdtempSync("/tmp/bk-");
  cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, "s.sock");
}

async function serve(
  actions: ServeOptions["actions"],
  options: Partial<ServeOptions> = {},
): Promise<{ path: string; server: Awaited<ReturnType<typeof serveCbor>> }> {
  const listen = options.listen ?? { path: socketPath(), mode: 0o600 };
  const path = "path" in listen ? listen.path : "";
  const server = await serveCbor({ actions, log: silentLog, ...options, listen });
  cleanups.push(() => server[Symbol.asyncDispose]());
  return { path, server };
}

const nothing = v.object({});
const echo = action(v.object({ value: v.unknown() }), async ({ value }) => value);
const peer = { peer: "tester" };

/** A raw connection: sends exact bytes, and returns all that the other side sent until it closed. */
function raw(path: string, ...writes: Uint8Array[]): { socket: Socket; answer: Promise<Uint8Array> } {
  const socket = connect({ path, allowHalfOpen: true });
  cleanups.push(() => socket.destroy());
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  socket.on("error", () => {});
  const answer = new Promise<Uint8Array>((resolve) => {
    socket.on("end", () => resolve(Buffer.concat(chunks)));
    socket.on("close", () => resolve(Buffer.concat(chunks)));
  });
  for (const bytes of writes) socket.write(bytes);
  return { socket, answer };
}

async function failure(call: Promise<unknown>): Promise<BureauError> {
  try {
    await call;
  } catch (error) {
    expect(error).toBeInstanceOf(BureauError);
    return error as BureauError;
  }
  throw new Error("the call did not fail");
}

describe("one request, one response", () => {
  test("runs the named action with its parsed fields, and returns its data", async () => {
    const { path } = await serve({
      echo,
      add: action(v.object({ a: v.number(), b: v.number() }), async ({ a, b }) => ({ sum: a + b })),
      silent: action(nothing, async () => undefined),
    });
    expect(await callCbor(path, { action: "add", a: 1, b: 2 }, v.object({ sum: v.number() }), peer)).toEqual({
      sum: 3,
    });
    expect(await callCbor(path, { action: "silent" }, v.undefined(), peer)).toBeUndefined();
    const value = { bytes: new Uint8Array([1, 2]), list: [1, "é", null] };
    expect((await callCbor(path, { action: "echo", value }, v.unknown(), peer)) as never).toEqual(
      value as never,
    );
  });

  test("unknown and missing actions, bad fields and bad bytes are invalid input", async () => {
    const { path } = await serve({ echo, add: action(v.object({ a: v.number() }), async () => 1) });
    const unknown = await failure(callCbor(path, { action: "nope" }, v.unknown(), peer));
    expect([unknown.code, unknown.message]).toEqual(["invalid-input", 'unknown action "nope"']);
    const inherited = await failure(callCbor(path, { action: "toString" }, v.unknown(), peer));
    expect(inherited.message).toBe('unknown action "toString"');
    const fields = await failure(callCbor(path, { action: "add", a: "1" }, v.unknown(), peer));
    expect([fields.code, fields.message]).toEqual([
      "invalid-input",
      expect.stringContaining("add request: a:"),
    ]);
    for (const request of [{}, { action: 5 }, [], "x", null]) {
      const { answer } = raw(path, encodeCbor(request));
      expect(decodeCbor(await answer) as never).toEqual({
        ok: false,
        error: "missing required field: action",
        code: "invalid-input",
      } as never);
    }
    const { answer } = raw(path, new Uint8Array([0xff]));
    expect(decodeCbor(await answer)).toMatchObject({ ok: false, code: "invalid-input" });
  });

  test("an error's code and hint cross the wire; other errors are failures and are logged", async () => {
    const lines: string[] = [];
    const { path } = await serve(
      {
        refuse: action(nothing, async () => {
          throw new BureauError("forbidden", "Cannot do that", { hint: "bureau grant" });
        }),
        crash: action(nothing, async () => {
          throw new TypeError("oops", { cause: new Error("why") });
        }),
        unsendable: action(nothing, async () => ({ a: () => 1 })),
      },
      { log: createLog("t", { write: (line) => lines.push(line) }) },
    );
    const refused = await failure(callCbor(path, { action: "refuse" }, v.unknown(), peer));
    expect([refused.code, refused.message, refused.hint]).toEqual([
      "forbidden",
      "Cannot do that",
      "bureau grant",
    ]);
    expect(lines).toEqual([]);
    const crashed = await failure(callCbor(path, { action: "crash" }, v.unknown(), peer));
    expect([crashed.code, crashed.message, crashed.hint]).toEqual(["failed", "oops: why", ""]);
    const unsendable = await failure(callCbor(path, { action: "unsendable" }, v.unknown(), peer));
    expect(unsendable.code).toBe("failed");
    expect(lines).toHaveLength(2);
  });

  test("an unknown code reads as failed, and a response of another shape as invalid", async () => {
    const replies = [{ ok: false, error: "x", code: "new-code" }, { ok: false }, { fine: true }];
    const path = socketPath();
    const server = createServer((socket) => socket.end(encodeCbor(replies.shift())));
    await listening(server, path);
    expect((await failure(callCbor(path, { action: "a" }, v.unknown(), peer))).code).toBe("failed");
    expect((await failure(callCbor(path, { action: "a" }, v.unknown(), peer))).message).toBe(
      "the tester refused a",
    );
    await expect(callCbor(path, { action: "a" }, v.unknown(), peer)).rejects.toThrow(
      "Invalid tester response",
    );
  });

  test("a caller that closes its side after the request still gets its answer", async () => {
    const { path } = await serve({ slow: action(nothing, () => Bun.sleep(20).then(() => "done")) });
    const { socket, answer } = raw(path);
    socket.end(encodeCbor({ action: "slow" }));
    expect(decodeCbor(await answer)).toEqual({ ok: true, data: "done" });
  });

  test("ignores bytes after the request", async () => {
    const { path } = await serve({ echo });
    const { answer } = raw(path, encodeCbor({ action: "echo", value: 1 }), new Uint8Array([0xff, 0xff]));
    expect(decodeCbor(await answer)).toEqual({ ok: true, data: 1 });
  });

  test("answers hundreds of callers at once, each with its own response", async () => {
    const { path } = await serve({ echo });
    const calls = Array.from({ length: 300 }, (_, value) =>
      callCbor(path, { action: "echo", value }, v.number(), peer),
    );
    expect(await Promise.all(calls)).toEqual(Array.from({ length: 300 }, (_, i) => i));
  });
});

describe("the caller of a request", () => {
  const whoami = action(nothing, async (_, { caller }) => caller);
  const CallerSchema = v.object({ pid: v.number(), uid: v.number(), gid: v.number() });

  test("is this process, with its user and group", async () => {
    const { path } = await serve({ whoami });
    expect(await callCbor(path, { action: "whoami" }, CallerSchema, peer)).toEqual({
      pid: process.pid,
      uid: process.getuid?.() ?? -1,
      gid: process.getgid?.() ?? -1,
    });
  });

  // Only root may start a process of another user.
  test.skipIf(process.getuid?.() !== 0)("is another user when that user connects", async () => {
    const { path } = await serve({ whoami }, { listen: { path: socketPath(), mode: 0o666 } });
    chmodSync(dirname(path), 0o755);
    const request = Buffer.from(encodeCbor({ action: "whoami" })).toString("hex");
    const script = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(bytes.fromhex(sys.argv[2]))
print(os.getpid(), s.recv(4096).hex())`;
    const child = Bun.spawn(
      ["setpriv", "--reuid=65534", "--regid=65533", "--clear-groups", "python3", "-c", script, path, request],
      // A user's own Python may be in a folder that other users may not enter.
      { stdout: "pipe", stderr: "inherit", env: { PATH: "/usr/local/bin:/usr/bin:/bin" } },
    );
    const [pid, answer = ""] = (await child.stdout.text()).trim().split(" ");
    expect(decodeCbor(Buffer.from(answer, "hex"))).toEqual({
      ok: true,
      data: { pid: Number(pid), uid: 65534, gid: 65533 },
    });
  });
});

describe("limits", () => {
  const big = (bytes: number): Uint8Array => new Uint8Array(bytes);

  test("a request just under the limit passes, one over it is too large", async () => {
    const { path } = await serve({
      size: action(v.object({ value: v.instance(Uint8Array) }), async ({ value }) => value.length),
    });
    const call = (size: number) => callCbor(path, { action: "size", value: big(size) }, v.number(), peer);
    expect(await call(MESSAGE_BYTES_MAX - 100)).toBe(MESSAGE_BYTES_MAX - 100);
    expect((await failure(call(MESSAGE_BYTES_MAX))).code).toBe("too-large");
    expect(await call(1)).toBe(1);
  });

  test("a response over the limit becomes an error", async () => {
    const { path } = await serve({
      size: action(v.object({ n: v.number() }), async ({ n }) => big(n)),
      shout: action(nothing, async () => {
        throw new BureauError("conflict", "x".repeat(2 * MESSAGE_BYTES_MAX));
      }),
    });
    const call = (n: number) => callCbor(path, { action: "size", n }, v.instance(Uint8Array), peer);
    expect(await call(MESSAGE_BYTES_MAX - 100)).toHaveLength(MESSAGE_BYTES_MAX - 100);
    const failed = await failure(call(MESSAGE_BYTES_MAX));
    expect([failed.code, failed.message]).toEqual(["too-large", expect.stringContaining("the response has")]);
    expect((await failure(callCbor(path, { action: "shout" }, v.unknown(), peer))).code).toBe("conflict");
  });

  test("a client does not read a response over the limit", async () => {
    const path = socketPath();
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.end(encodeCbor({ ok: true, data: big(2 * MESSAGE_BYTES_MAX) }));
    });
    await listening(server, path);
    expect((await failure(callCbor(path, { action: "a" }, v.unknown(), peer))).code).toBe("too-large");
  });

  test("drops a request that arrives slower than the limit, and cuts its connection", async () => {
    const { path } = await serve({ echo }, { requestMsMax: 60, lingerMsMax: 60 });
    const { socket, answer } = raw(path);
    const request = encodeCbor({ action: "echo", value: "x".repeat(1_000) });
    let sent = 0;
    const drip = setInterval(() => socket.write(request.subarray(sent, ++sent)), 2);
    cleanups.push(() => clearInterval(drip));
    expect(decodeCbor(await answer)).toMatchObject({ ok: false, code: "timeout" });
    await new Promise((resolve) => socket.on("close", resolve));
    expect(sent).toBeLessThan(request.length);
  });

  test("cuts off an answered caller that never disconnects", async () => {
    const { path } = await serve({ echo }, { lingerMsMax: 30 });
    const { socket, answer } = raw(path, encodeCbor({ action: "echo", value: 1 }));
    expect(decodeCbor(await answer)).toEqual({ ok: true, data: 1 });
    const flood = setInterval(() => socket.write(big(1_000)), 2);
    cleanups.push(() => clearInterval(flood));
    await new Promise((resolve) => socket.on("close", resolve));
  });

  test("a call fails after its timeout, with that reason", async () => {
    const { path } = await serve({ hang: action(nothing, (_, { signal }) => untilAborted(signal)) });
    const failed = await failure(callCbor(path, { action: "hang" }, v.unknown(), { ...peer, timeoutMs: 30 }));
    expect([failed.code, failed.message]).toEqual(["timeout", "no complete tester response within 30 ms"]);
  });
});

describe("disconnects", () => {
  test("a caller that disconnects aborts the handler's signal", async () => {
    const { promise, resolve } = Promise.withResolvers<string>();
    const started = Promise.withResolvers<void>();
    const { path } = await serve({
      hang: action(nothing, async (_, { signal }) => {
        started.resolve();
        await untilAborted(signal);
        resolve("aborted");
      }),
    });
    const stop = new AbortController();
    const call = callCbor(path, { action: "hang" }, v.unknown(), {
      ...peer,
      timeoutMs: "none",
      signal: stop.signal,
    });
    await started.promise;
    stop.abort();
    expect((await failure(call)).code).toBe("unavailable");
    expect(await promise).toBe("aborted");
  });

  test("a killed caller aborts the handler's signal too", async () => {
    const { promise, resolve } = Promise.withResolvers<string>();
    const started = Promise.withResolvers<void>();
    const { path } = await serve({
      hang: action(nothing, async (_, { signal }) => {
        started.resolve();
        await untilAborted(signal);
        resolve("aborted");
      }),
    });
    const script = `require("node:net").connect({ path: ${JSON.stringify(path)} }).write(Buffer.from("${Buffer.from(encodeCbor({ action: "hang" })).toString("hex")}", "hex")); setInterval(() => {}, 1000)`;
    const child = Bun.spawn(evalCommand(script), { stdio: ["ignore", "ignore", "inherit"] });
    cleanups.push(() => child.kill("SIGKILL"));
    await started.promise;
    const id = identify(child.pid);
    if (id !== undefined) signalProcess(id, "SIGKILL");
    expect(await promise).toBe("aborted");
  });

  for (const [when, laterMs] of [
    ["then", 0],
    ["a good while later", 300],
  ] as const)
    test(`a caller that first closes its side and ${when} disconnects aborts the handler's signal`, async () => {
      const { promise, resolve } = Promise.withResolvers<string>();
      const { path } = await serve({
        hang: action(nothing, async (_, { signal }) => {
          await untilAborted(signal);
          resolve("aborted");
        }),
      });
      const { socket } = raw(path);
      await new Promise<void>((done) => socket.end(encodeCbor({ action: "hang" }), done));
      await Bun.sleep(laterMs);
      socket.destroy();
      expect(await promise).toBe("aborted");
    });

  test("a call whose signal has already aborted fails", async () => {
    const { path } = await serve({ echo });
    const call = callCbor(path, { action: "echo", value: 1 }, v.unknown(), {
      ...peer,
      signal: AbortSignal.abort(),
    });
    expect((await failure(call)).code).toBe("unavailable");
  });

  test("a call fails at once when its peer closes before or within the response", async () => {
    const path = socketPath();
    const replies = [
      (socket: Socket) => socket.destroy(),
      (socket: Socket) => socket.end(encodeCbor({ ok: true, data: "long" }).subarray(0, 5)),
    ];
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => replies.shift()?.(socket));
    });
    await listening(server, path);
    for (let i = 0; i < 2; i++) {
      const failed = await failure(callCbor(path, { action: "a" }, v.unknown(), peer));
      expect([failed.code, failed.message]).toEqual([
        "unavailable",
        expect.stringContaining("tester response"),
      ]);
    }
  });

  test("a path without a server is unavailable, with the caller's hint", async () => {
    const path = socketPath();
    const failed = await failure(callCbor(path, { action: "a" }, v.unknown(), { ...peer, hint: "start it" }));
    expect([failed.code, failed.hint]).toEqual(["unavailable", "start it"]);
    expect(failed.message).toContain(`Cannot reach the tester at "${path}"`);
  });

  test("survives a caller that disconnects before its request is complete", async () => {
    const { path } = await serve({ echo });
    for (let i = 0; i < 20; i++) {
      const { socket } = raw(path, new Uint8Array([0xa2, 0x66]));
      await new Promise<void>((resolve) => socket.on("connect", () => resolve()));
      if (i % 2 === 0) socket.destroy();
      else socket.end();
    }
    expect(await callCbor(path, { action: "echo", value: 1 }, v.number(), peer)).toBe(1);
  });
});

describe("the socket file", () => {
  test("has exactly the requested mode, and is removed with the server", async () => {
    for (const mode of [0o600, 0o660, 0o666]) {
      const { path, server } = await serve({}, { listen: { path: socketPath(), mode } });
      expect(path).toBeDefined();
      await server[Symbol.asyncDispose]();
    }
    const path = socketPath();
    const server = await serveCbor({ listen: { path, mode: 0o660 }, actions: {}, log: silentLog });
    expect(statSync(path).mode & 0o777).toBe(0o660);
    await server[Symbol.asyncDispose]();
    expect(existsSync(path)).toBe(false);
  });

  test("is replaced when it is stale, and is a conflict when a program answers", async () => {
    const path = socketPath();
    const script = `require("node:net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
    await Bun.spawn(evalCommand(script), { stdio: ["ignore", "ignore", "ignore"] }).exited;
    expect(statSync(path).isSocket()).toBe(true);
    const { server } = await serve({ echo }, { listen: { path, mode: 0o600 } });
    expect(await callCbor(path, { action: "echo", value: 1 }, v.number(), peer)).toBe(1);
    const conflict = await failure(serveCbor({ listen: { path, mode: 0o600 }, actions: {}, log: silentLog }));
    expect(conflict.code).toBe("conflict");
    expect(await callCbor(path, { action: "echo", value: 2 }, v.number(), peer)).toBe(2);
    await server[Symbol.asyncDispose]();
  });

  test("never replaces a file or link that is not a socket", async () => {
    const path = socketPath();
    await clearStaleSocket(path);
    writeFileSync(path, "precious");
    expect((await failure(clearStaleSocket(path))).code).toBe("conflict");
    expect(statSync(path).size).toBe(8);
    const link = `${path}.link`;
    symlinkSync(path, link);
    expect((await failure(clearStaleSocket(link))).code).toBe("conflict");
  });

  test("cannot be created in a missing folder", async () => {
    const listen = { path: "/tmp/bureau-no-such-folder/s.sock", mode: 0o600 };
    await expect(serveCbor({ listen, actions: {}, log: silentLog })).rejects.toThrow();
  });
});

describe("stopping", () => {
  test("drain refuses new callers, answers those in flight, and then resolves", async () => {
    const release = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const { path, server } = await serve({
      slow: action(nothing, async () => {
        started.resolve();
        await release.promise;
        return "done";
      }),
    });
    const call = callCbor(path, { action: "slow" }, v.string(), peer);
    await started.promise;
    let drained = false;
    const drain = server.drain(10_000).then(() => {
      drained = true;
    });
    expect((await failure(callCbor(path, { action: "slow" }, v.string(), peer))).code).toBe("unavailable");
    expect(drained).toBe(false);
    release.resolve();
    expect(await call).toBe("done");
    await drain;
  });

  test("drain aborts a handler that exceeds its timeout", async () => {
    const aborted = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const { path, server } = await serve({
      hang: action(nothing, async (_, { signal }) => {
        started.resolve();
        await untilAborted(signal);
        aborted.resolve();
        return "late";
      }),
    });
    const call = callCbor(path, { action: "hang" }, v.string(), peer);
    await started.promise;
    await server.drain(20);
    await aborted.promise;
    expect(await call).toBe("late");
  });

  test("drain stops waiting for a silent connection", async () => {
    const { path, server } = await serve({ echo });
    const { socket } = raw(path);
    await new Promise<void>((resolve) => socket.on("connect", () => resolve()));
    await server.drain(20);
  });

  test("disposing closes open connections, aborts their handlers, and may follow a drain", async () => {
    const aborted = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const { path, server } = await serve({
      hang: action(nothing, async (_, { signal }) => {
        started.resolve();
        await untilAborted(signal);
        aborted.resolve();
      }),
    });
    const call = failure(callCbor(path, { action: "hang" }, v.unknown(), peer));
    const idle = raw(path);
    await started.promise;
    await server[Symbol.asyncDispose]();
    expect((await call).code).toBe("unavailable");
    await idle.answer;
    await aborted.promise;
    await server.drain(10);
    await server[Symbol.asyncDispose]();
  });
});

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

async function listening(server: Server, path: string): Promise<void> {
  cleanups.push(() => server.close());
  await new Promise<void>((resolve) => server.listen({ path }, resolve));
}
