/**
 * The launcher's watch on a daemon that is a new version of itself: one that does not say in time that it works is ended,
 * and whoever looks after it starts the version that is known to.
 *
 * What is watched is written down, so that a launcher that crashes meanwhile, or becomes another version itself, goes on
 * watching where the one before stopped. A process is gone after a reboot, so the file lies in the run folder.
 */
import { rmSync } from "node:fs";
import { uptime } from "node:os";
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { readIfPresent, writeAtomically } from "@bureau/os/durable-file";
import { daemonWatchFile, type Layout } from "@bureau/os/layout";
import { isAlive, type ProcessId, signalProcess } from "@bureau/os/process-table";
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";

const WatchSchema = v.object({
  pid: v.pipe(v.number(), v.integer()),
  start_ticks: v.number(),
  /** Milliseconds since the epoch, for launchers that know nothing better. */
  ends_at: v.number(),
  /** Milliseconds since the host was booted, which nobody sets. */
  ends_at_uptime: v.optional(v.number()),
  /** What is left is never more than this, whatever became of a clock. */
  deadline_ms: v.number(),
});

const uptimeMs = (): number => uptime() * 1_000;

export class DaemonWatch implements Disposable {
  readonly #deps: { readonly layout: Layout; readonly clock: Clock; readonly log: Log };
  readonly #file: string;
  #watched: { readonly daemon: ProcessId; readonly timer: ReturnType<typeof setTimeout> } | undefined;
  #ended: number | undefined;

  /** Goes on with what the launcher before this one watched. */
  constructor(deps: { readonly layout: Layout; readonly clock: Clock; readonly log: Log }) {
    this.#deps = deps;
    this.#file = daemonWatchFile(deps.layout);
    const left = this.#read();
    if (left === undefined) return;
    const { ends_at_uptime: end } = left;
    const untilEnd = end === undefined ? left.ends_at - deps.clock.now() : end - uptimeMs();
    const remaining = Math.max(0, Math.min(left.deadline_ms, untilEnd));
    this.#arm({ pid: left.pid, startTicks: left.start_ticks }, remaining);
  }

  /** The daemon process that was ended because it did not say in time that it works. */
  get ended(): number | undefined {
    return this.#ended;
  }

  /** Ends that process unless {@link release} comes within `deadlineMs`. One is watched at a time. */
  begin(daemon: ProcessId, deadlineMs: number): void {
    this.#end();
    if (!isAlive(daemon)) throw new BureauError("not-found", `There is no process ${daemon.pid} to watch`);
    this.#ended = undefined;
    const watch: v.InferOutput<typeof WatchSchema> = {
      pid: daemon.pid,
      start_ticks: daemon.startTicks,
      ends_at: this.#deps.clock.now() + deadlineMs,
      ends_at_uptime: uptimeMs() + deadlineMs,
      deadline_ms: deadlineMs,
    };
    writeAtomically(this.#file, JSON.stringify(watch), 0o600);
    this.#arm(daemon, deadlineMs);
  }

  release(pid: number): void {
    if (this.#watched?.daemon.pid === pid) this.#end();
  }

  #arm(daemon: ProcessId, inMs: number): void {
    const timer = setTimeout(() => {
      this.#end();
      if (!signalProcess(daemon, "SIGKILL")) return;
      this.#ended = daemon.pid;
      this.#deps.log.error(
        "upgrade.daemon-killed",
        "the daemon did not say in time that it works, and was ended",
        {
          pid: daemon.pid,
        },
      );
    }, inMs);
    this.#watched = { daemon, timer };
  }

  /** What cannot be read is watched no more. */
  #read(): v.InferOutput<typeof WatchSchema> | undefined {
    try {
      const text = readIfPresent(this.#file);
      return text === undefined ? undefined : parseJson(WatchSchema, text, this.#file);
    } catch (error) {
      this.#deps.log.warn("upgrade.watch-unreadable", "which daemon was watched cannot be read", {
        file: this.#file,
        error,
      });
      return undefined;
    }
  }

  #end(): void {
    clearTimeout(this.#watched?.timer);
    this.#watched = undefined;
    rmSync(this.#file, { force: true });
  }

  [Symbol.dispose](): void {
    this.#end();
  }
}
