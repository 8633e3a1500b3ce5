import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { type Bridge, type Endpoint, formatEndpoint, parseEndpoint, startBridge } from "@bureau/os/bridge";
import { evalCommand, runtimeCommand } from "@bureau/os/runtime-command";
import { eventually } from "@bureau/testkit/use-bureau";

const folder = mkdtempSync("/tmp/bb-");
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let sockets = 0;
const freshPath = (): string => join(folder, `${++sockets}.sock`);
const bridgeMain = join(import.meta.dir, "bridge-main.ts");

async function serve(onConnection: (socket: Socket) => void): Promise<{ path: string; server: Server }> {
  const path = freshPath();
  const server = createServer({ allowHalfOpen: true }, onConnection);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return { path, server };
}

async function bridgeTo(path: string) {
  const problems: string[] = [];
  const bridge = await startBridge({
    listen: parseEndpoint("tcp:127.0.0.1:0"),
    connect: parseEndpoint(`unix:${path}`),
    onProblem: (problem) => problems.push(problem.message),
  });
  if (bridge.listening.kind !== "tcp") throw new Error("expected a TCP listener");
  return { bridge, port: bridge.listening.port, problems };
}

const pattern = (size: number): Buffer => Buffer.alloc(size, "bureau-bridge-0123456789");
const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.on("error", () => {});
    socket.on("close", () => resolve());
  });

test("addresses are read and written the same way, and nonsense is refused", () => {
  for (const text of ["tcp:127.0.0.1:80", "tcp:[::1]:0", "unix:/a/b.sock"])
    expect(formatEndpoint(parseEndpoint(text))).toBe(text);
  for (const text of ["tcp:80", "unix:relative", "127.0.0.1:80", "tcp:h:99999", ""])
    expect(() => parseEndpoint(text)).toThrow("Invalid address");
});

test("an end of stream passes through while the answer still comes back", async () => {
  const { path, server } = await serve((socket) => {
    const chunks: (Buffer | string)[] = [];
    socket.on("data", (chunk) => chunks.push(chunk));
    // The answer starts only after the caller's end of stream has arrived.
    socket.on("end", () => socket.end(`got ${chunks.join("").length}`));
  });
  const { bridge, port } = await bridgeTo(path);
  const client = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  const answer: (Buffer | string)[] = [];
  client.on("data", (chunk) => answer.push(chunk));
  client.end("12345");
  await new Promise((resolve) => client.on("end", resolve));
  expect(answer.join("")).toBe("got 5");
  bridge[Symbol.dispose]();
  server.close();
});

test("64 MiB cross unchanged in both directions at once, also when the reader is slow", async () => {
  const size = 64 * 1024 * 1024;
  const { path, server } = await serve((socket) => {
    socket.on("data", (chunk) => {
      if (socket.write(chunk)) return;
      socket.pause();
      socket.once("drain", () => socket.resume());
    });
    socket.on("end", () => socket.end());
  });
  const { bridge, port } = await bridgeTo(path);
  const client = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  const received = new Bun.CryptoHasher("sha256");
  let count = 0;
  client.on("data", (chunk) => {
    received.update(chunk);
    count += chunk.length;
    if (count % 16 === 0) {
      client.pause();
      setImmediate(() => client.resume());
    }
  });
  const ended = new Promise((resolve) => client.on("end", resolve));
  client.end(pattern(size));
  await ended;
  expect(count).toBe(size);
  expect(received.digest("hex")).toBe(new Bun.CryptoHasher("sha256").update(pattern(size)).digest("hex"));
  bridge[Symbol.dispose]();
  server.close();
});

test("a reader who does not read makes the sender wait instead of filling memory", async () => {
  const { path, server } = await serve((socket) => socket.pause());
  // A process of its own: in this one the memory of other tests comes and goes.
  const bridge = run(["--listen", "tcp:127.0.0.1:0", "--connect", `unix:${path}`]);
  const port = await portOf(bridge);
  const peakKiB = (): number =>
    Number(/^VmHWM:\s*(\d+)/mu.exec(readFileSync(`/proc/${bridge.pid}/status`, "utf8"))?.[1]);
  const client = connect({ port, host: "127.0.0.1" });
  const chunk = pattern(1024 * 1024);
  const before = peakKiB();
  while (client.write(chunk) || (await drained(client))) if (client.bytesWritten > 512 * 1024 * 1024) break;
  expect(client.writableNeedDrain).toBe(true);
  expect(client.bytesWritten).toBeLessThan(64 * 1024 * 1024);
  expect(peakKiB() - before).toBeLessThan(64 * 1024);
  client.destroy();
  bridge.kill();
  await bridge.exited;
  server.close();
});

/** True when the socket took more within a time no working path needs. */
const drained = (socket: Socket): Promise<boolean> =>
  new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), 300);
    socket.once("drain", () => {
      clearTimeout(timer);
      resolve(true);
    });
  });

test("200 connections at once are kept apart", async () => {
  const { path, server } = await serve((socket) => socket.pipe(socket));
  const { bridge, port } = await bridgeTo(path);
  const answers = await Promise.all(
    Array.from({ length: 200 }, async (_, i) => {
      const client = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
      const chunks: (Buffer | string)[] = [];
      client.on("data", (chunk) => chunks.push(chunk));
      client.end(`number ${i}`);
      await new Promise((resolve) => client.on("end", resolve));
      return chunks.join("");
    }),
  );
  expect(answers).toEqual(Array.from({ length: 200 }, (_, i) => `number ${i}`));
  bridge[Symbol.dispose]();
  server.close();
});

test("when the target is away the caller is cut off and the reason is told", async () => {
  const { bridge, port, problems } = await bridgeTo(join(folder, "closed.sock"));
  await closed(connect({ port, host: "127.0.0.1" }));
  expect(problems[0]).toContain("Cannot connect to unix:");
  bridge[Symbol.dispose]();
});

test("a side that breaks breaks the other", async () => {
  const broken = Promise.withResolvers<string>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("end", () => broken.resolve("ended quietly"));
    void closed(socket).then(() => broken.resolve("broke"));
    socket.write("hello");
    socket.resume();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("expected a TCP server");
  const bridge = await startBridge({
    listen: parseEndpoint("tcp:127.0.0.1:0"),
    connect: { kind: "tcp", host: "127.0.0.1", port: address.port },
    onProblem: () => {},
  });
  if (bridge.listening.kind !== "tcp") throw new Error("expected a TCP listener");
  const client = connect({ port: bridge.listening.port, host: "127.0.0.1" });
  await new Promise((resolve) => client.once("data", resolve));
  client.resetAndDestroy();
  expect(await broken.promise).toBe("broke");
  bridge[Symbol.dispose]();
  server.close();
});

/** A bridge that listens on a unix socket, where it is seen that a peer is gone. */
async function bridgeFor(target: Endpoint, lingerMs?: number): Promise<{ bridge: Bridge; path: string }> {
  const path = freshPath();
  const bridge = await startBridge({
    listen: { kind: "unix", path },
    connect: target,
    onProblem: () => {},
    ...(lingerMs === undefined ? {} : { lingerMs }),
  });
  return { bridge, path };
}

/** Sends `bytes` and an end, and is gone before anything can come back. */
async function sendAndVanish(path: string, bytes: Uint8Array): Promise<void> {
  const client = connect(path);
  const gone = closed(client);
  client.end(bytes, () => client.destroy());
  await gone;
}

const descriptors = (): number => readdirSync("/proc/self/fd").length;

test("a client that ended and is gone costs nothing, though the target never ends", async () => {
  const path = freshPath();
  // A process of its own: its descriptors are not ours.
  const target = Bun.spawn(
    evalCommand(
      `Bun.listen({unix:"${path}",allowHalfOpen:true,socket:{data(){},end(){}}}); console.log("up")`,
    ),
    { stdout: "pipe" },
  );
  await target.stdout.getReader().read();
  const { bridge, path: near } = await bridgeFor({ kind: "unix", path }, 10);
  await sendAndVanish(near, pattern(10));
  const before = descriptors();
  for (let i = 0; i < 10; i++) await sendAndVanish(near, pattern(10));
  await eventually(async () => (descriptors() <= before ? true : undefined));
  bridge[Symbol.dispose]();
  target.kill();
  await target.exited;
});

test("what a client sent before it went arrives whole at a target that talks while it reads", async () => {
  const size = 1024 * 1024;
  const arrived = Promise.withResolvers<number>();
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    let count = 0;
    socket.on("error", arrived.reject);
    socket.on("data", (chunk) => {
      count += chunk.length;
      socket.write(chunk);
    });
    socket.on("end", () => {
      arrived.resolve(count);
      socket.end();
    });
    accepted.resolve(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("expected a TCP server");
  const { bridge, path } = await bridgeFor({ kind: "tcp", host: "127.0.0.1", port: address.port });
  await sendAndVanish(path, pattern(size));
  // It starts to read and answer only after the client has disconnected.
  (await accepted.promise).resume();
  expect(await arrived.promise).toBe(size);
  bridge[Symbol.dispose]();
  server.close();
});

test("a client that stopped reading, ended and is gone does not stop its target from ending", async () => {
  const told = Promise.withResolvers<void>();
  const { path, server } = await serve((socket) => {
    socket.on("error", () => {});
    socket.on("end", () => {
      socket.end();
      told.resolve();
    });
    // More than fits anywhere on the way: the bridge has paused it when the client goes.
    socket.write(pattern(16 * 1024 * 1024));
    socket.resume();
  });
  const { bridge, path: near } = await bridgeFor({ kind: "unix", path });
  const before = descriptors();
  const client = connect({ path: near, allowHalfOpen: true });
  await new Promise((resolve) => client.once("data", resolve));
  client.pause();
  client.end("bye");
  await told.promise;
  const gone = closed(client);
  client.destroy();
  await gone;
  await eventually(async () => (descriptors() <= before ? true : undefined));
  bridge[Symbol.dispose]();
  server.close();
});

test("a socket that answers is not taken over; a dead one is replaced", async () => {
  const { path, server } = await serve((socket) => socket.end());
  const start = (): ReturnType<typeof startBridge> =>
    startBridge({
      listen: { kind: "unix", path },
      connect: { kind: "unix", path: "/none" },
      onProblem: () => {},
    });
  await expect(start()).rejects.toThrow("another process answers there");
  await Bun.sleep(0);
  server.close();
  const left = Bun.spawnSync(
    evalCommand(`Bun.listen({unix:"${path}",socket:{data(){}}}); process.kill(process.pid,"SIGKILL")`),
  );
  expect(left.signalCode).toBe("SIGKILL");
  const bridge = await start();
  bridge[Symbol.dispose]();
});

function run(args: string[], env: Record<string, string> = {}, stdin: "ignore" | "pipe" = "ignore") {
  return Bun.spawn(runtimeCommand(bridgeMain, ...args), {
    stdin,
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, ...env },
  });
}

/** The TCP port on which it says that it listens. */
async function portOf(bridge: ReturnType<typeof run>): Promise<number> {
  let said = "";
  for await (const chunk of bridge.stderr) {
    said += new TextDecoder().decode(chunk);
    const port = /tcp:127\.0\.0\.1:(\d+) /.exec(said)?.[1];
    if (port !== undefined) return Number(port);
  }
  throw new Error(`the bridge said ${JSON.stringify(said)}`);
}

test("the program starts its command with the proxy's URL and exits as it did", async () => {
  const server = Bun.serve({ unix: freshPath(), fetch: () => new Response("from the proxy") });
  const path = server.url.pathname;
  const program = `console.log(await (await fetch(process.env.BUREAU_PROXY_URL)).text()); process.exit(7)`;
  const child = run(["--", ...evalCommand(program)], { BUREAU_PROXY_SOCKET: path });
  expect(await new Response(child.stdout).text()).toBe("from the proxy\n");
  expect(await child.exited).toBe(7);
  await server.stop(true);
});

test("signals reach the command, and its death by one is told as 128+n", async () => {
  const child = run(["--", "sh", "-c", 'trap "echo hup" HUP; echo up; while :; do sleep 0.05; done']);
  const reader = child.stdout.getReader();
  const text = async (): Promise<string> => new TextDecoder().decode((await reader.read()).value);
  expect(await text()).toBe("up\n");
  child.kill("SIGHUP");
  expect(await text()).toBe("hup\n");
  child.kill("SIGTERM");
  expect(await child.exited).toBe(128 + 15);
});

test("a hang-up does not kill a command that does not handle it", async () => {
  const child = run(["--", "sh", "-c", "echo up; read line; echo still here"], {}, "pipe");
  const reader = child.stdout.getReader();
  const text = async (): Promise<string> => new TextDecoder().decode((await reader.read()).value);
  expect(await text()).toBe("up\n");
  child.kill("SIGHUP");
  if (typeof child.stdin !== "object") throw new Error("expected a pipe");
  child.stdin.write("go\n");
  await child.stdin.flush();
  expect(await text()).toBe("still here\n");
  expect(await child.exited).toBe(0);
});

test("wrong usage exits with 2, a command that is not there with 1", async () => {
  const wrong = run(["--listen", "nowhere"]);
  expect(await wrong.exited).toBe(2);
  expect(await new Response(wrong.stderr).text()).toContain("unix:/ABSOLUTE/PATH");
  expect(await run(["--frobnicate"]).exited).toBe(2);
  expect(await run(["--", "/no/such/program"]).exited).toBe(1);
  const help = run(["--help"]);
  expect(await new Response(help.stdout).text()).toContain("Usage: bureau-bridge");
  expect(await help.exited).toBe(0);
});
