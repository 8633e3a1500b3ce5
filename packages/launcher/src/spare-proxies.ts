/**
 * Proxies that are started and wait for their configuration, because a sandbox would wait longest for the start of the
 * runtime. When the launcher dies, they read end of file and exit.
 *
 * A refill never competes with a sandbox that starts: it starts one spare after the other, and only while nothing pauses it.
 * Under systemd a spare is a connection to the proxies' socket, so a unit that waits: the same holds for it.
 */
import type { Log } from "@bureau/kit/log";
import { isAlive, type ProcessId } from "@bureau/os/process-table";
import type { OpenProxy, ProxyChannel } from "./proxy-channel.ts";

/**
 * So many sandboxes in a row start without waiting for a proxy's start (15 ms of CPU, more on a busy host). A spare takes 5
 * to 6 MB of memory (PSS), so a further one is not worth it: a burst of many sandboxes starts most proxies itself.
 */
export const SPARE_PROXIES = 3;

export type SpareProxiesOptions = {
  readonly open: OpenProxy;
  /** How many are kept ready. */
  readonly count: number;
  /** Sends SIGTERM, then SIGKILL; resolves when the process has ended. */
  readonly stop: (id: ProcessId) => Promise<void>;
  readonly log: Log;
};

export class SpareProxies implements AsyncDisposable {
  #ready: ProxyChannel[] = [];
  /** The one that starts, until a sandbox takes it: one that arrives meanwhile waits less than for a new proxy. */
  #opening: Promise<ProxyChannel | undefined> | undefined;
  #pauses = 0;
  #closed = false;
  constructor(readonly options: SpareProxiesOptions) {}

  /** Those that are ready. */
  get ids(): ProcessId[] {
    return this.#ready.map(({ id }) => id);
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
    this.#ready = this.#ready.filter(({ id }) => isAlive(id));
    while (!this.#closed && this.#pauses === 0 && this.#ready.length < this.options.count) {
      const opening = this.#open();
      this.#opening = opening;
      const spare = await opening;
      // It was taken meanwhile.
      if (this.#opening !== opening) return;
      this.#opening = undefined;
      if (spare === undefined) return;
      this.#ready.push(spare);
    }
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
      if (spare === undefined || isAlive(spare.id)) return spare;
    }
  }

  #takeOpening(): Promise<ProxyChannel | undefined> | undefined {
    const opening = this.#opening;
    this.#opening = undefined;
    return opening;
  }

  /** Ends all; {@link refill} makes others. */
  async end(): Promise<void> {
    const ready = this.#ready.splice(0);
    const opened = await this.#takeOpening();
    const spares = opened === undefined ? ready : [...ready, opened];
    await Promise.all(spares.map(({ id }) => this.options.stop(id)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.end();
  }
}
