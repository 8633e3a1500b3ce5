/**
 * Proxies: one process for each sandbox. Each reads its configuration from standard input only, and outlives the launcher.
 *
 * One spare proxy is always started and waits, because a sandbox would wait longest for the start of the runtime. When the
 * launcher dies, its spare reads end of file and exits.
 */
import { encodeCbor } from "@bureau/kit/cbor";
import { BureauError } from "@bureau/kit/errors";
import type { Runtime } from "@bureau/kit/runtime";
import { stopProcess } from "@bureau/os/process-end";
import { findByArguments, isAlive, type ProcessId } from "@bureau/os/process-table";
import type { ProxyStart } from "@bureau/schema/proxy-wire";
import { cannotStart, type OpenProxy, type ProxyChannel } from "./proxy-channel.ts";

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
  /** Set when its start begins: a request that arrives during its rehearsal waits less than for a new proxy. */
  #spare: Promise<ProxyChannel | undefined> | undefined;
  /** The spare's process, after its first line. */
  #spareId: ProcessId | undefined;
  #closed = false;
  constructor(readonly options: ProxyProcessOptions) {}

  /** Starts a proxy; resolves when it listens. @throws BureauError, with no process left */
  async start(start: ProxyStart, sandboxFolder: string): Promise<ProcessId> {
    const spare = await this.#takeSpare();
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

  /**
   * Starts the spare unless there is one. Call it when no request waits for the processor. Never throws: without a spare
   * the next start only takes longer.
   */
  prepareSpare(): void {
    if (this.#closed) return;
    if (this.#spare !== undefined && (this.#spareId === undefined || isAlive(this.#spareId))) return;
    this.#spareId = undefined;
    this.#spare = this.#openSpare();
  }

  async #openSpare(): Promise<ProxyChannel | undefined> {
    try {
      const spare = await this.options.open(["--spare"]);
      spare.hold(false);
      this.#spareId = spare.id;
      return spare;
    } catch (error) {
      this.options.log.warn("proxy.spare-failed", "cannot start a spare proxy", { error });
      return undefined;
    }
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
    const orphans = ours.filter(
      (id) =>
        id.pid !== this.#spareId?.pid &&
        !known.some(({ pid, startTicks }) => pid === id.pid && startTicks === id.startTicks),
    );
    await Promise.all(orphans.map((id) => this.stop(id)));
    return orphans.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.endSpare();
  }

  /** Ends the spare; {@link prepareSpare} makes another. */
  async endSpare(): Promise<void> {
    const spare = await this.#takeSpare();
    if (spare !== undefined) await this.stop(spare.id);
  }

  async #takeSpare(): Promise<ProxyChannel | undefined> {
    const taken = this.#spare;
    this.#spare = undefined;
    this.#spareId = undefined;
    const spare = await taken;
    if (spare === undefined || !isAlive(spare.id)) return undefined;
    spare.hold(true);
    return spare;
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
