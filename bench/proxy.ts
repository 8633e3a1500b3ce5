/**
 * The cost of a proxy: latency added to a small request over one keep-alive connection, and throughput over 32, beside
 * the same upstream asked directly, beside the runtime's own server and client alone, and beside nginx (one worker, no
 * access log, keep-alive upstream, unix sockets on both sides, one header injected). Rounds are interleaved, medians over
 * rounds are printed.
 *
 * `bun bench/proxy.ts`
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runtimeCommand } from "@bureau/os/runtime-command";
import { encodeCbor } from "../packages/kit/src/encode-cbor.ts";
import type { ProxyStart } from "../packages/schema/src/proxy-wire.ts";
import { findProgram, notCompared, unpackPackage } from "./debian-packages.ts";

const ROUNDS = 7;
const LATENCY_REQUESTS = 2_000;
const THROUGHPUT_REQUESTS = 40_000;
const THROUGHPUT_CONNECTIONS = 32;

type Sample = { p50Ms: number; p95Ms: number; perSecond: number };
type Target = { readonly name: string; readonly socket: string; readonly path: string };
export type TargetResult = { p50Ms: number; p95Ms: number; perSecond: number };
export type ProxyBench = {
  direct: TargetResult;
  proxy: TargetResult;
  /** The runtime's HTTP server and client without a proxy's work: no proxy on this runtime is faster. */
  floor: TargetResult;
  /** Undefined when there is no nginx. */
  nginx: TargetResult | undefined;
  /** Milliseconds the proxy adds to a request over asking the upstream directly. */
  addedP50Ms: number;
  addedP95Ms: number;
  /** The proxy's throughput over nginx's. */
  throughputOverNginx: number | undefined;
};

export async function benchProxy(): Promise<ProxyBench> {
  const folder = mkdtempSync(join(tmpdir(), "bp-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  const upstream = join(folder, "up.sock");
  await startProcess(stack, runtimeCommand(join(import.meta.dir, "proxy-upstream.ts"), upstream));
  const targets: Target[] = [
    { name: "direct", socket: upstream, path: "/small" },
    await startProxyTarget(stack, folder, upstream),
    await startFloor(stack, folder, upstream),
  ];
  const nginx = await startNginx(stack, folder, upstream);
  if (nginx !== undefined) targets.push(nginx);
  const measured = await measure(targets);
  const of = (name: string): TargetResult => {
    const found = measured.get(name);
    if (found === undefined) throw new Error(`${name} was not measured`);
    return found;
  };
  const direct = of("direct");
  const proxy = of("proxy");
  const beside = nginx === undefined ? undefined : of("nginx");
  return {
    direct,
    proxy,
    floor: of("floor"),
    nginx: beside,
    addedP50Ms: proxy.p50Ms - direct.p50Ms,
    addedP95Ms: proxy.p95Ms - direct.p95Ms,
    throughputOverNginx: beside === undefined ? undefined : proxy.perSecond / beside.perSecond,
  };
}

/** Each round asks every target in turn, so that other load affects all of them. */
async function measure(targets: readonly Target[]): Promise<Map<string, TargetResult>> {
  for (const target of targets) await load(target, THROUGHPUT_CONNECTIONS, THROUGHPUT_REQUESTS);
  const latency = new Map<string, Sample[]>();
  const throughput = new Map<string, Sample[]>();
  const add = (to: Map<string, Sample[]>, name: string, sample: Sample): void =>
    void to.set(name, [...(to.get(name) ?? []), sample]);
  for (let round = 0; round < ROUNDS; round++)
    for (const target of targets) {
      add(latency, target.name, await load(target, 1, LATENCY_REQUESTS));
      add(throughput, target.name, await load(target, THROUGHPUT_CONNECTIONS, THROUGHPUT_REQUESTS));
    }
  const result = (name: string): TargetResult => ({
    p50Ms: median((latency.get(name) ?? []).map((sample) => sample.p50Ms)),
    p95Ms: median((latency.get(name) ?? []).map((sample) => sample.p95Ms)),
    perSecond: median((throughput.get(name) ?? []).map((sample) => sample.perSecond)),
  });
  return new Map(targets.map(({ name }) => [name, result(name)]));
}

async function load(target: Target, connections: number, requests: number): Promise<Sample> {
  const child = Bun.spawn(
    runtimeCommand(
      ...([join(import.meta.dir, "proxy-load.ts"), target.socket, target.path] as const),
      ...[String(connections), String(requests)],
    ),
    { stdout: "pipe", stderr: "inherit" },
  );
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`the load generator failed against ${target.name}`);
  return JSON.parse(text) as Sample;
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** Starts a process, waits until it says that it is ready, stops it with the stack. @returns its pid */
export async function startProcess(
  stack: AsyncDisposableStack,
  command: string[],
  stdin?: Uint8Array<ArrayBuffer>,
): Promise<number> {
  const child = Bun.spawn(command, {
    stdin: stdin ?? "ignore",
    stdout: "pipe",
    stderr: "ignore",
  });
  stack.defer(async () => {
    child.kill();
    await child.exited;
  });
  let said = "";
  for await (const chunk of child.stdout) {
    said += Buffer.from(chunk).toString();
    if (said.includes("ready\n")) return child.pid;
  }
  throw new Error(`${command.join(" ")} ended before it was ready`);
}

async function startProxyTarget(
  stack: AsyncDisposableStack,
  folder: string,
  upstream: string,
): Promise<Target> {
  const socket = join(folder, "proxy.sock");
  const admin = join(folder, "admin.sock");
  const start: ProxyStart = {
    principal: "agent/bench",
    socket_path: socket,
    admin_socket_path: admin,
    credentials: { KEY: "bench-credential" },
  };
  const main = join(import.meta.dir, "../packages/proxy/src/main.ts");
  await startProcess(stack, runtimeCommand(main), new Uint8Array(encodeCbor(start)));
  const response = await fetch("http://localhost/v1/admin/services/api", {
    unix: admin,
    method: "PUT",
    body: JSON.stringify({
      upstream_unix: upstream,
      inject_headers: { Authorization: "KEY" },
      auth_scheme: "bearer",
    }),
  });
  if (response.status !== 201) throw new Error(`the proxy refused the service: ${await response.text()}`);
  return { name: "proxy", socket, path: "/http/api/small" };
}

async function startFloor(stack: AsyncDisposableStack, folder: string, upstream: string): Promise<Target> {
  const socket = join(folder, "floor.sock");
  const program = join(import.meta.dir, "proxy-floor-program.ts");
  await startProcess(stack, runtimeCommand(program, socket, upstream));
  return { name: "floor", socket, path: "/small" };
}

/** nginx of this host, else Debian's, unpacked into `folder`. */
function nginxProgram(folder: string): string | undefined {
  const installed = findProgram("nginx");
  if (installed !== undefined) return installed;
  const root = unpackPackage("nginx", join(folder, "package"));
  const unpacked = root === undefined ? undefined : join(root, "usr/sbin/nginx");
  return unpacked !== undefined && existsSync(unpacked) ? unpacked : undefined;
}

async function startNginx(
  stack: AsyncDisposableStack,
  folder: string,
  upstream: string,
): Promise<Target | undefined> {
  const program = nginxProgram(folder);
  if (program === undefined) {
    notCompared("nginx", "it is not installed, and apt cannot download it");
    return undefined;
  }
  const socket = join(folder, "nginx.sock");
  const config = join(folder, "nginx.conf");
  writeFileSync(
    config,
    `daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log ${folder}/nginx.log;
${process.getuid?.() === 0 ? "user root;" : ""}
events { worker_connections 512; }
http {
  access_log off; keepalive_requests 100000000;
  client_body_temp_path ${folder}/b; proxy_temp_path ${folder}/p; fastcgi_temp_path ${folder}/f;
  uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
  upstream up { server unix:${upstream}; keepalive 64; keepalive_requests 100000000; }
  server {
    listen unix:${socket};
    location /http/api/ {
      proxy_pass http://up/; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer bench-credential";
    }
  }
}
`,
  );
  const child = Bun.spawn([program, "-c", config], { stdout: "ignore", stderr: "inherit" });
  stack.defer(async () => {
    child.kill();
    await child.exited;
  });
  for (const deadline = Date.now() + 5_000; !existsSync(socket); await Bun.sleep(10))
    if (Date.now() > deadline) throw new Error("nginx did not start");
  return { name: "nginx", socket, path: "/http/api/small" };
}

function print(bench: ProxyBench): void {
  const line = (name: string, result: TargetResult): string =>
    `${name.padEnd(8)} p50 ${result.p50Ms.toFixed(3)} ms   p95 ${result.p95Ms.toFixed(3)} ms   ${Math.round(result.perSecond)} requests/s`;
  console.log(line("direct", bench.direct));
  console.log(line("proxy", bench.proxy));
  console.log(line("floor", bench.floor));
  if (bench.nginx !== undefined) console.log(line("nginx", bench.nginx));
  console.log(
    `added by the proxy: ${bench.addedP50Ms.toFixed(3)} ms at p50 (goal ≤ 0.150), ${bench.addedP95Ms.toFixed(3)} ms at p95`,
  );
  if (bench.nginx !== undefined)
    console.log(
      `added by nginx:     ${(bench.nginx.p50Ms - bench.direct.p50Ms).toFixed(3)} ms at p50\n` +
        `the runtime alone: ${(bench.floor.perSecond / bench.nginx.perSecond).toFixed(2)} × nginx\n` +
        `throughput: ${(bench.throughputOverNginx ?? 0).toFixed(2)} × nginx (goal ≥ 0.70)`,
    );
}

if (import.meta.main) print(await benchProxy());
