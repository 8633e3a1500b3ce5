/**
 * The memory of idle proxies, as the launcher starts them, beside as many of the runtime's own HTTP server and client: no
 * proxy on this runtime is smaller. All run at once, so that both share the pages of the runtime with equally many.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runtimeArguments } from "@bureau/os/runtime-command";
import { encodeCbor } from "../packages/kit/src/encode-cbor.ts";
import type { ProxyStart } from "../packages/schema/src/proxy-wire.ts";
import { pssMb } from "./memory.ts";
import { startProcess } from "./proxy.ts";
import { type Figure, figure } from "./statistics.ts";

const PROXIES = 25;
const IDLE_MS = 5_000;

export async function benchProxyMemory(): Promise<Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), "bpm-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  const dist = join(import.meta.dir, "../dist/current");
  const command = [join(dist, "runtime/bun"), ...runtimeArguments];
  const proxies: number[] = [];
  const floors: number[] = [];
  for (let index = 0; index < PROXIES; index++) {
    const start: ProxyStart = {
      principal: "agent/bench",
      socket_path: join(folder, `${index}.proxy`),
      admin_socket_path: join(folder, `${index}.admin`),
      credentials: { KEY: "bench-credential" },
    };
    const main = join(dist, "lib/bureau-proxy/main.js");
    const proxy = [...command, main, "--spare", "--run-dir", folder];
    proxies.push(await startProcess(stack, proxy, new Uint8Array(encodeCbor(start))));
    const program = join(import.meta.dir, "proxy-floor-program.ts");
    floors.push(
      await startProcess(stack, [...command, program, join(folder, `${index}.floor`), "/dev/null"]),
    );
  }
  await Bun.sleep(IDLE_MS);
  const mean = (pids: readonly number[]): number =>
    pids.reduce((sum, pid) => sum + pssMb(pid), 0) / pids.length;
  const floor = { name: "the runtime's server and client alone", value: mean(floors) };
  return [figure(`an idle proxy, memory (PSS), of ${PROXIES}`, mean(proxies), "MB", floor, "≤ 4 MB")];
}

if (import.meta.main) console.log(JSON.stringify(await benchProxyMemory(), null, 2));
