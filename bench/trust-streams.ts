/**
 * The first byte of an event stream (SSE) through a proxy, beside the same stream asked directly. The stream stays open
 * behind its first event, so a proxy that buffers never answers. Both are asked in turns.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runtimeArguments, runtimeCommand } from "@bureau/os/runtime-command";
import { encodeCbor } from "../packages/kit/src/encode-cbor.ts";
import type { ProxyStart } from "../packages/schema/src/proxy-wire.ts";
import { startProcess } from "./proxy.ts";
import { type Figure, figure, quantile } from "./statistics.ts";

const STREAMS = 600;
/** On two crowded processors, three processes take turns where the direct stream has two. */
const RATIO_MAX = 15;

export async function benchTrustStreams(): Promise<Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), "bts-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  const upstream = join(folder, "up.sock");
  await startProcess(stack, runtimeCommand(join(import.meta.dir, "event-stream-program.ts"), upstream));
  const socket = join(folder, "proxy.sock");
  const admin = join(folder, "admin.sock");
  const start: ProxyStart = {
    principal: "agent/bench",
    socket_path: socket,
    admin_socket_path: admin,
    credentials: { KEY: "bench-credential" },
  };
  const dist = join(import.meta.dir, "../dist/current");
  const main = [join(dist, "runtime/bun"), ...runtimeArguments, join(dist, "lib/bureau-proxy/main.js")];
  await startProcess(stack, [...main, "--spare", "--run-dir", folder], new Uint8Array(encodeCbor(start)));
  const declared = { upstream_unix: upstream, inject_headers: { "X-Api-Key": "KEY" } };
  await fetch("http://proxy/v1/admin/services/live", {
    unix: admin,
    method: "PUT",
    body: JSON.stringify(declared),
  });
  const samples = { direct: [] as number[], proxied: [] as number[] };
  for (let i = 0; i < STREAMS; i++) {
    samples.direct.push(await firstByteMs(upstream, "/x"));
    samples.proxied.push(await firstByteMs(socket, "/http/live/x"));
  }
  // The first tenth warms up.
  const p50 = (list: readonly number[]): number => quantile(list.slice(STREAMS / 10), 0.5);
  const [direct, proxied] = [p50(samples.direct), p50(samples.proxied)];
  const floor = { name: "the same asked directly", value: direct };
  return [
    figure(
      "first byte of an event stream through the proxy, p50",
      proxied,
      "ms",
      floor,
      undefined,
      RATIO_MAX,
    ),
    figure("added by the proxy, p50", proxied - direct, "ms", undefined, "≤ 0.3 ms"),
  ];
}

async function firstByteMs(unix: string, path: string): Promise<number> {
  const leave = new AbortController();
  const before = performance.now();
  const response = await fetch(`http://stream${path}`, { unix, signal: leave.signal });
  const first = await response.body?.getReader().read();
  const took = performance.now() - before;
  if (first?.value?.length !== 13)
    throw new Error(`${path} answered ${response.status} without the first event`);
  leave.abort();
  return took;
}
