/**
 * Proxies: one process for each sandbox. Each reads its configuration from standard input only, and outlives the launcher.
 */
import { encodeCbor } from "@bureau/kit/encode-cbor";
import { BureauError } from "@bureau/kit/errors";
import type { Runtime } from "@bureau/kit/runtime";
import { stopProcess } from "@bureau/os/process-end";
import { findByArguments, isSameProcess, type ProcessId } from "@bureau/os/process-table";
import type { ProxyStart } from "@bureau/schema/proxy-wire";
import { cannotStart, type OpenProxy, type ProxyChannel } from "./proxy-channel.ts";
import { SPARE_PROXIES, SpareProxies } from "./spare-proxies.ts";

/** From the first byte of its input to `ready` (section 12.2). */
const READY_MS_MAX = 10_000;
/** Between SIGTERM and SIGKILL. */
const STOP_GRACE_MS = 2_000;

export type ProxyProcessOptions = Pick<Runtime, "clock" | "log"> & {
  readonly open: OpenProxy;
  /** Marks the proxies of this launcher in the process table. */
  readonly runDir: string;
};

export class ProxyProcesses implements AsyncDisposable {
  readonly spares: SpareProxies;

  constructor(readonly options: ProxyProcessOptions) {
    const { open, clock, log } = options;
    this.spares = new SpareProxies({ open, count: SPARE_PROXIES, clock, log, stop: (id) => this.stop(id) });
  }

  /** Starts a proxy; resolves when it listens. @throws BureauError, with no process left */
  async start(start: ProxyStart, sandboxFolder: string): Promise<ProcessId> {
    const spare = await this.spares.take();
    if (spare !== undefined)
      try {
        return await this.#configure(spare, start);
      } catch (error) {
        // The spare may have died while it waited: that is no fault of this sandbox.
        this.options.log.warn("proxy.spare-failed", "the spare proxy did not start; trying a new one", {
          error,
        });
      }
    return await this.#configure(await this.options.open(["--sandbox", sandboxFolder]), start);
  }

  async #configure(proxy: ProxyChannel, start: ProxyStart): Promise<ProcessId> {
    try {
      await untilReady(proxy, start);
    } catch (error) {
      await this.stop(proxy.id);
      throw error;
    }
    proxy.hold(false);
    return proxy.id;
  }

  /** Sends SIGTERM, then SIGKILL; resolves when the process has ended. No error when it had ended before. */
  stop(id: ProcessId): Promise<void> {
    return stopProcess(id, STOP_GRACE_MS, this.options.clock);
  }

  /** Ends every proxy of this run folder that is not in `known`: a crashed launcher left it. */
  async stopOrphans(known: readonly ProcessId[]): Promise<number> {
    const { runDir } = this.options;
    const ours = [
      ...findByArguments("--run-dir", runDir, "--spare"),
      ...findByArguments("--run-dir", runDir, "--sandbox"),
    ];
    const kept = [...known, ...this.spares.ids];
    const orphans = ours.filter((id) => !kept.some((one) => isSameProcess(one, id)));
    await Promise.all(orphans.map((id) => this.stop(id)));
    return orphans.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.spares[Symbol.asyncDispose]();
  }
}

/** Sends the configuration, and waits for `ready`. */
async function untilReady(proxy: ProxyChannel, start: ProxyStart): Promise<void> {
  try {
    // A proxy that ends meanwhile closes its output, which nextLine reports. `ready` means that it read everything.
    proxy.send(encodeCbor(start)).catch(() => {});
    const line = await proxy.nextLine(READY_MS_MAX);
    if (line !== "ready") throw new BureauError("failed", `it wrote "${line}" instead of "ready"`);
  } catch (error) {
    throw cannotStart(
      `the proxy of "${start.principal}"`,
      error,
      "see the log of the launcher, or of the proxy",
    );
  }
}
