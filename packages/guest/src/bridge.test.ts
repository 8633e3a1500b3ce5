import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { formatEndpoint, parseEndpoint, startBridge } from "./bridge.ts";

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
  const { bridge, port, problems } = await bridgeTo(join(folder, "nobody.sock"));
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

test("a socket that answers is not taken over; a dead one is replaced", async () => {
  const { path, server } = await serve((socket) => socket.end());
  const start = (): ReturnType<typeof startBridge> =>
    startBridge({
      listen: { kind: "unix", path },
      connect: { kind: "unix", path: "/none" },
      onProblem: () => {},
    });
  expect(start()).rejects.toThrow("another process answers there");
  await Bun.sleep(0);
  server.close();
  const left = Bun.spawnSync([
    process.execPath,
    "-e",
    `Bun.listen({unix:"${path}",socket:{data(){}}}); process.kill(process.pid,"SIGKILL")`,
  ]);
  expect(left.signalCode).toBe("SIGKILL");
  const bridge = await start();
  bridge[Symbol.dispose]();
});

function run(args: string[], env: Record<string, string> = {}, stdin: "ignore" | "pipe" = "ignore") {
  return Bun.spawn([process.execPath, bridgeMain, ...args], {
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
  const child = run(["--", process.execPath, "-e", program], { BUREAU_PROXY_SOCKET: path });
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
