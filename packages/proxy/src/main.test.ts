import { afterAll, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { encodeCbor } from "@bureau/kit/encode-cbor";
import { argumentsOf, catchesSignal } from "@bureau/os/process-table";
import { runtimeCommand } from "@bureau/os/runtime-command";
import type { ProxyStart } from "@bureau/schema/proxy-wire";

const folder = mkdtempSync("/tmp/bpm-");
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const main = join(import.meta.dir, "main.ts");
let proxies = 0;

function start(fields: Partial<ProxyStart> = {}): ProxyStart {
  proxies++;
  return {
    principal: "agent/test",
    socket_path: join(folder, `${proxies}.proxy.sock`),
    admin_socket_path: join(folder, `${proxies}.admin.sock`),
    ...fields,
  };
}

function spawn(prefix: string[] = [], env: Record<string, string> = {}) {
  return Bun.spawn([...prefix, ...runtimeCommand(main, "--sandbox", "/somewhere", "--spare")], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
    env: { PATH: process.env["PATH"], ...env },
  });
}

type Child = ReturnType<typeof spawn>;
/** The output of a configured proxy: everything after its pid, up to the first line. */
async function tell(child: Child, config: ProxyStart): Promise<string> {
  child.stdin.write(encodeCbor(config));
  await child.stdin.end();
  const pid = `pid ${child.pid}\n`;
  let said = "";
  for await (const chunk of child.stdout) {
    said += new TextDecoder().decode(chunk);
    if (said.length > pid.length) break;
  }
  if (!said.startsWith(pid)) throw new Error(`it said ${JSON.stringify(said)}`);
  return said.slice(pid.length);
}
const health = async (unix: string): Promise<unknown> => (await fetch("http://h/health", { unix })).json();

test("a configured proxy listens with final modes, reports ready, and leaves no socket after SIGTERM", async () => {
  const child = spawn();
  const config = start();
  writeFileSync(config.socket_path, "a stale file");
  expect(await tell(child, config)).toBe("ready\n");
  for (const path of [config.socket_path, config.admin_socket_path]) {
    expect(statSync(path).mode & 0o777).toBe(0o660);
    expect(await health(path)).toEqual({ status: "ok" });
  }
  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
  expect(existsSync(config.socket_path) || existsSync(config.admin_socket_path)).toBe(false);
});

test("the paths of its sockets may be longer than a socket address", async () => {
  const deep = join(folder, "d".repeat(80), "e".repeat(80));
  mkdirSync(deep, { recursive: true });
  const child = spawn();
  const config = start({
    socket_path: join(deep, "proxy.sock"),
    admin_socket_path: join(deep, "admin.sock"),
  });
  expect(await tell(child, config)).toBe("ready\n");
  // Others reach such a socket through a link.
  const link = join(folder, "link.sock");
  symlinkSync(config.socket_path, link);
  expect(await health(link)).toEqual({ status: "ok" });
  child.kill();
  expect(await child.exited).toBe(0);
  expect(existsSync(config.socket_path)).toBe(false);
});

test("exits before it listens when its configuration is incomplete, and logs no value of it", async () => {
  const config = start({ matrix_token: "very-secret-token", credentials: { KEY: "very-secret-key" } });
  const whole = encodeCbor(config);
  const wrong = encodeCbor({
    ...config,
    credentials: { KEY: 987654321 },
    matrix_token: ["very-secret-token"],
  });
  for (const bytes of [
    new Uint8Array(),
    whole.subarray(0, 1),
    whole.subarray(0, whole.length - 1),
    Buffer.concat([whole, whole.subarray(0, 1)]),
    encodeCbor([config]),
    wrong,
  ]) {
    const child = spawn();
    child.stdin.write(bytes);
    await child.stdin.end();
    const [code, out, log] = await Promise.all([
      child.exited,
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    expect(code).toBe(1);
    expect(out).toBe(`pid ${child.pid}\n`);
    expect(log).toContain('"level":"error"');
    expect(log).not.toContain("very-secret");
    expect(log).not.toContain("987654321");
    expect(existsSync(config.socket_path) || existsSync(config.admin_socket_path)).toBe(false);
  }
});

test("a spare stops on SIGTERM before it is configured", async () => {
  const child = spawn();
  while (!catchesSignal(child.pid, 15)) await Bun.sleep(2);
  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
});

test("finishes a request in flight after SIGTERM, and cuts off a long poll", async () => {
  const release = Promise.withResolvers<void>();
  const arrived = { slow: Promise.withResolvers<void>(), poll: Promise.withResolvers<void>() };
  const upstream = Bun.serve({
    port: 0,
    idleTimeout: 0,
    async fetch(request) {
      const poll = request.url.endsWith("/sync");
      arrived[poll ? "poll" : "slow"].resolve();
      if (poll) return new Promise<Response>(() => {});
      await release.promise;
      return new Response("finished");
    },
  });
  const child = spawn();
  const config = start({
    matrix_homeserver_url: upstream.url.href,
    matrix_token: "t",
    services: { slow: { upstream: upstream.url.href } },
  });
  await tell(child, config);
  const slow = fetch("http://h/http/slow/", { unix: config.socket_path });
  const poll = fetch("http://h/v1/matrix/sync", { unix: config.socket_path });
  await Promise.all([arrived.slow.promise, arrived.poll.promise]);
  child.kill("SIGTERM");
  expect((await poll).status).toBe(502);
  release.resolve();
  expect(await (await slow).text()).toBe("finished");
  expect(await child.exited).toBe(0);
  await upstream.stop(true);
});

test("a broken response leaves no query in the log, nor does an unreachable upstream", async () => {
  const upstream = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", () => socket.resetAndDestroy());
    });
  });
  await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  const address = upstream.address();
  if (address === null || typeof address === "string") throw new Error("expected a TCP server");
  const child = spawn();
  const config = start({
    services: {
      cut: { upstream: `http://127.0.0.1:${address.port}` },
      away: { upstream: "http://127.0.0.1:1" },
    },
  });
  await tell(child, config);
  for (const name of ["cut", "away"])
    await fetch(`http://h/http/${name}/?key=s3cret`, { unix: config.socket_path })
      .then((response) => response.text())
      .catch(() => undefined);
  child.kill("SIGTERM");
  expect(await new Response(child.stderr).text()).not.toContain("s3cret");
  upstream.close();
});

test("streams large bodies in both directions in constant memory", async () => {
  const size = 256 * 1024 * 1024;
  const bytes = (): ReadableStream => {
    let left = size;
    return new ReadableStream({
      pull(controller) {
        if (left === 0) return controller.close();
        left -= 1024 * 1024;
        controller.enqueue(new Uint8Array(1024 * 1024));
      },
    });
  };
  const count = async (body: ReadableStream<Uint8Array> | null): Promise<number> => {
    let total = 0;
    for await (const chunk of body ?? []) total += chunk.length;
    return total;
  };
  const upstream = Bun.serve({
    port: 0,
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    fetch: async (request) =>
      request.method === "GET" ? new Response(bytes()) : new Response(String(await count(request.body))),
  });
  const child = spawn();
  const config = start({ services: { big: { upstream: upstream.url.href } } });
  await tell(child, config);
  const peakKiB = (): number =>
    Number(/^VmHWM:\s*(\d+)/mu.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1]);
  const before = peakKiB();
  const ask = (init: RequestInit): Promise<Response> =>
    fetch("http://h/http/big/", { ...init, unix: config.socket_path });
  expect(await (await ask({ method: "POST", body: bytes() })).text()).toBe(String(size));
  expect(await count((await ask({})).body)).toBe(size);
  expect(peakKiB() - before).toBeLessThan(64 * 1024);
  child.kill();
  await child.exited;
  await upstream.stop(true);
});

test("a proxy that stops does not remove the sockets of its successor", async () => {
  const config = start();
  const first = spawn();
  await tell(first, config);
  const second = spawn();
  await tell(second, config);
  first.kill();
  expect(await first.exited).toBe(0);
  expect(await health(config.socket_path)).toEqual({ status: "ok" });
  second.kill();
  await second.exited;
});

test("no other process of the same user can read its memory or environment", async () => {
  // Root with its capabilities may read everything; without them it is an ordinary user.
  const powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"];
  const prefix = process.getuid?.() === 0 ? powerless : [];
  const child = spawn(prefix);
  const config = start({ credentials: { KEY: "secret" } });
  const ready = await tell(child, config);
  if (ready !== "ready\n") throw new Error(await new Response(child.stderr).text());
  const look = (pid: number, file: string) =>
    Bun.spawnSync([...prefix, "sh", "-c", `exec 3</proc/${pid}/${file}`]);
  for (const file of ["mem", "environ"]) {
    const refused = look(child.pid, file);
    expect(refused.exitCode).not.toBe(0);
    expect(refused.stderr.toString()).toContain("Permission denied");
  }
  // Control: reading an unprotected process succeeds. (Its environment, not its memory: a kernel with Yama protects
  // memory by itself.)
  const plain = Bun.spawn([...prefix, "sleep", "60"], { stdout: "ignore" });
  while (argumentsOf(plain.pid)[0] !== "sleep") await Bun.sleep(2);
  expect(look(plain.pid, "environ").exitCode).toBe(0);
  plain.kill();
  child.kill();
  await Promise.all([plain.exited, child.exited]);
});
