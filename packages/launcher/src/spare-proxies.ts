/**
 * Proxies that are started and wait for their configuration, because a sandbox would wait longest for the start of the
 * runtime. When the launcher dies, they read end of file and exit.
 *
 * A refill never competes with a sandbox that starts: it starts one spare after the other, and only while nothing pauses it.
 * Under systemd a spare is a connection to the proxies' socket, so a unit that waits: the same holds for it.
 */
import type { Runtime } from "@bureau/kit/runtime";
import { whenEnded } from "@bureau/os/process-end";
import { isAlive, type ProcessId } from "@bureau/os/process-table";
import type { OpenProxy, ProxyChannel } from "./proxy-channel.ts";

/**
 * So many sandboxes in a row start without waiting for a proxy's start (15 ms of CPU, more on a busy host). A spare takes 5
 * to 6 MB of memory (PSS), so a further one is not worth it: a burst of many sandboxes starts most proxies itself.
 */
export const SPARE_PROXIES = 3;

/** Between the end of a waiting spare and its replacement: a proxy that always ends at once must not keep a processor busy. */
const REPLACE_MS = 1_000;

export type SpareProxiesOptions = Pick<Runtime, "clock" | "log"> & {
  readonly open: OpenProxy;
  /** How many are kept ready. */
  readonly count: number;
  /** Sends SIGTERM, then SIGKILL; resolves when the process has ended. */
  readonly stop: (id: ProcessId) => Promise<void>;
};

/** A spare that waits, and the watch of its end. */
type Waiting = { readonly proxy: ProxyChannel; readonly watch: Disposable };

export class SpareProxies implements AsyncDisposable {
  #ready: Waiting[] = [];
  #replacing = new AbortController();
  /** The one that starts, until a sandbox takes it: one that arrives meanwhile waits less than for a new proxy. */
  #opening: Promise<ProxyChannel | undefined> | undefined;
  #pauses = 0;
  #closed = false;
  constructor(readonly options: SpareProxiesOptions) {}

  /** Those that are ready. */
  get ids(): ProcessId[] {
    return this.#ready.map(({ proxy }) => proxy.id);
  }

  /** Keeps the refill from starting a proxy until the result is disposed of; the last one disposed of refills. */
  pauseRefill(): Disposable {
    this.#pauses += 1;
    return {
      [Symbol.dispose]: () => {
        this.#pauses -= 1;
        this.refill();
      },
    };
  }

  /** Starts what is missing. Never throws: without a spare the next start only takes longer. */
  refill(): void {
    if (this.#opening === undefined) void this.#refill();
  }

  async #refill(): Promise<void> {
    while (!this.#closed && this.#pauses === 0 && this.#living() < this.options.count) {
      const opening = this.#open();
      this.#opening = opening;
      const spare = await opening;
      // It was taken meanwhile.
      if (this.#opening !== opening) return;
      this.#opening = undefined;
      if (spare === undefined) return;
      this.#ready.push({ proxy: spare, watch: whenEnded(spare.id, () => void this.#replaceEnded()) });
    }
  }

  /** Forgets the spares that have ended; the number of the others. */
  #living(): number {
    this.#ready = this.#ready.filter(({ proxy }) => isAlive(proxy.id));
    return this.#ready.length;
  }

  /** A spare may end after the last refill has counted it. */
  async #replaceEnded(): Promise<void> {
    const { signal } = this.#replacing;
    await this.options.clock.sleep(REPLACE_MS, signal);
    if (!signal.aborted) this.refill();
  }

  async #open(): Promise<ProxyChannel | undefined> {
    try {
      const spare = await this.options.open(["--spare"]);
      spare.hold(false);
      return spare;
    } catch (error) {
      this.options.log.warn("proxy.spare-failed", "cannot start a spare proxy", { error });
      return undefined;
    }
  }

  /** A spare that lives; undefined when there is none. */
  async take(): Promise<ProxyChannel | undefined> {
    const spare = this.#takeReady() ?? (await this.#takeOpening());
    if (spare === undefined || !isAlive(spare.id)) return undefined;
    spare.hold(true);
    return spare;
  }

  #takeReady(): ProxyChannel | undefined {
    for (;;) {
      const spare = this.#ready.shift();
      if (spare === undefined) return undefined;
      spare.watch[Symbol.dispose]();
      if (isAlive(spare.proxy.id)) return spare.proxy;
    }
  }

  #takeOpening(): Promise<ProxyChannel | undefined> | undefined {
    const opening = this.#opening;
    this.#opening = undefined;
    return opening;
  }

  /** Ends all; {@link refill} makes others. */
  async end(): Promise<void> {
    this.#replacing.abort();
    this.#replacing = new AbortController();
    const ready = this.#ready.splice(0);
    for (const { watch } of ready) watch[Symbol.dispose]();
    const opened = await this.#takeOpening();
    const spares = [...ready.map(({ proxy }) => proxy), ...(opened === undefined ? [] : [opened])];
    await Promise.all(spares.map(({ id }) => this.options.stop(id)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.end();
  }
}
