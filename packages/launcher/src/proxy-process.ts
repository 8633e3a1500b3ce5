/**
 * Proxies: one process a sandbox, told what it may do on its standard input and nowhere else. They live in sessions of
 * their own, so that a launcher that dies takes none along.
 *
 * One spare is kept started and waiting, because starting a runtime is most of what a sandbox would wait for. The
 * spare of a launcher that dies reads end of file and exits.
 */
import { encodeCbor } from "@bureau/kit/cbor";
import type { Clock } from "@bureau/kit/clock";
import { BureauError, messageOf } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { findByArguments, identify, isAlive, type ProcessId, stopProcess } from "@bureau/kit/process-table";
import type { ProxyStart } from "@bureau/schema/proxy-wire";

/** From the last byte of its input to `ready` (section 12.2). */
const READY_MS_MAX = 10_000;
/** Between SIGTERM and SIGKILL. */
const STOP_GRACE_MS = 2_000;
/** `ready` and a newline; anything longer is not a proxy. */
const READY_BYTES_MAX = 4_096;

type Child = Bun.Subprocess<"pipe", "pipe", "inherit">;
type Started = { readonly child: Child; readonly id: ProcessId };

export type ProxyProcessOptions = {
  /** The program and what comes before its own arguments. */
  readonly command: readonly string[];
  /** Marks our proxies in the process table. */
  readonly runDir: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Called when a proxy that this launcher started has ended. */
  readonly onExit: () => void;
};

export class ProxyProcesses implements AsyncDisposable {
  #spare: Started | undefined;
  #closed = false;
  constructor(readonly options: ProxyProcessOptions) {}

  /** Starts one and resolves when it listens. @throws BureauError; then no process is left */
  async start(start: ProxyStart, sandboxFolder: string): Promise<ProcessId> {
    const spare = this.#takeSpare();
    if (spare !== undefined)
      try {
        return await this.#tell(spare, start);
      } catch (error) {
        // It may have died while it waited, which says nothing about this sandbox.
        this.options.log.warn("the spare proxy did not start; trying a new one", { error });
      }
    return await this.#tell(this.#spawn("--sandbox", sandboxFolder), start);
  }

  async #tell(proxy: Started, start: ProxyStart): Promise<ProcessId> {
    try {
      proxy.child.stdin.write(encodeCbor(start));
      await proxy.child.stdin.end();
      await this.#untilReady(proxy, start.principal);
    } catch (error) {
      await this.stop(proxy.id);
      throw error;
    }
    proxy.child.unref();
    return proxy.id;
  }

  /** Starts the spare unless there is one; called when nobody waits for the processor. Never throws: without a spare the next start only takes longer. */
  prepareSpare(): void {
    if (this.#closed || (this.#spare !== undefined && isAlive(this.#spare.id))) return;
    try {
      this.#spare = this.#spawn("--spare");
      this.#spare.child.unref();
    } catch (error) {
      this.options.log.warn("cannot keep a spare proxy", { error });
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
        id.pid !== this.#spare?.id.pid &&
        !known.some(({ pid, startTicks }) => pid === id.pid && startTicks === id.startTicks),
    );
    await Promise.all(orphans.map((id) => this.stop(id)));
    return orphans.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    const spare = this.#spare;
    this.#spare = undefined;
    if (spare !== undefined) await this.stop(spare.id);
  }

  #takeSpare(): Started | undefined {
    const spare = this.#spare;
    this.#spare = undefined;
    if (spare === undefined || !isAlive(spare.id)) return undefined;
    spare.child.ref();
    return spare;
  }

  #spawn(...mode: string[]): Started {
    const { command, runDir } = this.options;
    let child: Child;
    try {
      child = Bun.spawn([...command, ...mode, "--run-dir", runDir], {
        // BUREAU_LOG is the only setting a proxy takes from its surroundings.
        env: process.env["BUREAU_LOG"] === undefined ? {} : { BUREAU_LOG: process.env["BUREAU_LOG"] },
        cwd: "/",
        stdin: "pipe",
        stdout: "pipe",
        stderr: "inherit",
        detached: true,
        onExit: () => this.options.onExit(),
      });
    } catch (error) {
      throw new BureauError("failed", `Cannot start a proxy: "${command.join(" ")}" does not run`, {
        cause: error,
      });
    }
    const id = identify(child.pid);
    if (id === undefined) throw new BureauError("failed", `Cannot start a proxy: it exited at once`);
    return { child, id };
  }

  async #untilReady({ child }: Started, principal: string): Promise<void> {
    const late = AbortSignal.timeout(READY_MS_MAX);
    const reader = child.stdout.getReader();
    const abort = (): void => void reader.cancel();
    late.addEventListener("abort", abort, { once: true });
    let text = "";
    try {
      while (!text.includes("\n") && text.length < READY_BYTES_MAX) {
        const { value, done } = await reader.read();
        if (done) break;
        text += Buffer.from(value).toString("latin1");
      }
    } catch (error) {
      throw new BureauError("failed", `Cannot start the proxy of "${principal}": ${messageOf(error)}`);
    } finally {
      late.removeEventListener("abort", abort);
      void reader.cancel();
    }
    if (text.startsWith("ready\n")) return;
    if (late.aborted)
      throw new BureauError(
        "timeout",
        `Cannot start the proxy of "${principal}": not ready within ${READY_MS_MAX} ms`,
      );
    const code = await child.exited;
    throw new BureauError("failed", `Cannot start the proxy of "${principal}": it exited with ${code}`, {
      hint: "its reason stands in the launcher's log",
    });
  }
}
