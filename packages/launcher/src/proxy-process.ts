/**
 * Proxies: one process a sandbox, told what it may do on its standard input and nowhere else. None dies with us.
 *
 * One spare is kept started and waiting, because starting a runtime is most of what a sandbox would wait for. The
 * spare of a launcher that dies reads end of file and exits.
 */

import { encodeCbor } from "@bureau/kit/cbor";
import { BureauError } from "@bureau/kit/errors";
import type { Runtime } from "@bureau/kit/runtime";
import { findByArguments, isAlive, type ProcessId, stopProcess } from "@bureau/os/process-table";
import type { ProxyStart } from "@bureau/schema/proxy-wire";
import { cannotStart, type OpenProxy, type ProxyChannel } from "./proxy-channel.ts";

/** From the first byte of its input to `ready` (section 12.2). */
const READY_MS_MAX = 10_000;
/** Between SIGTERM and SIGKILL. */
const STOP_GRACE_MS = 2_000;

export type ProxyProcessOptions = Pick<Runtime, "clock" | "log"> & {
  readonly open: OpenProxy;
  /** Marks our proxies in the process table. */
  readonly runDir: string;
};

export class ProxyProcesses implements AsyncDisposable {
  /** Set from when its start began: a request that comes while it rehearses waits less than for a new one. */
  #spare: Promise<ProxyChannel | undefined> | undefined;
  /** The spare's process, once it has begun. */
  #spareId: ProcessId | undefined;
  #closed = false;
  constructor(readonly options: ProxyProcessOptions) {}

  /** Starts one and resolves when it listens. @throws BureauError; then no process is left */
  async start(start: ProxyStart, sandboxFolder: string): Promise<ProcessId> {
    const spare = await this.#takeSpare();
    if (spare !== undefined)
      try {
        return await this.#tell(spare, start);
      } catch (error) {
        // It may have died while it waited, which says nothing about this sandbox.
        this.options.log.warn("proxy.spare-failed", "the spare proxy did not start; trying a new one", {
          error,
        });
      }
    return await this.#tell(await this.options.open(["--sandbox", sandboxFolder]), start);
  }

  async #tell(proxy: ProxyChannel, start: ProxyStart): Promise<ProcessId> {
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
   * Starts the spare unless there is one; called when no request waits for the processor. Never throws: without a spare the
   * next start only takes longer.
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
      this.options.log.warn("proxy.spare-failed", "cannot keep a spare proxy", { error });
      return undefined;
    }
  }

  /** SIGTERM, then SIGKILL; resolves when it is gone. No error when it was. */
  stop(id: ProcessId): Promise<void> {
    return stopProcess(id, STOP_GRACE_MS, this.options.clock);
  }

  /** Ends every proxy of this run folder that is not in `known`: what a launcher that crashed left behind. */
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

/** Tells it what it is to be, and waits for its word. */
async function untilReady(proxy: ProxyChannel, start: ProxyStart): Promise<void> {
  try {
    // One that ends while it is told says so by its output's end; one that is ready has been told all.
    proxy.send(encodeCbor(start)).catch(() => {});
    const line = await proxy.nextLine(READY_MS_MAX);
    if (line !== "ready") throw new BureauError("failed", `it is not ready, and says "${line}"`);
  } catch (error) {
    throw cannotStart(
      `the proxy of "${start.principal}"`,
      error,
      "its reason stands in the launcher's log, or in its own",
    );
  }
}
