/**
 * The launcher's watch over a daemon of a new build: a daemon that does not report in time that it works is killed, and the
 * service manager starts the build that is known to work.
 *
 * The watch is kept in a file, so that a launcher that starts after a crash or an upgrade continues it with the same
 * deadline. A process is gone after a reboot, so the file lies in the run folder.
 */

import { rmSync } from "node:fs";
import { uptime } from "node:os";
import { BureauError } from "@bureau/kit/errors";
import type { Runtime } from "@bureau/kit/runtime";
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
  /** Milliseconds since the host was booted: setting the clock does not change it. */
  ends_at_uptime: v.optional(v.number()),
  /** What is left is never more than this, also when the clock was set. */
  deadline_ms: v.number(),
});

const uptimeMs = (): number => uptime() * 1_000;

type WatchDeps = Pick<Runtime, "clock" | "log"> & { readonly layout: Layout };

export class DaemonWatch implements Disposable {
  readonly #deps: WatchDeps;
  readonly #file: string;
  #watched: { readonly daemon: ProcessId; readonly timer: ReturnType<typeof setTimeout> } | undefined;
  #ended: number | undefined;

  /** Continues the watch of the launcher before this one. */
  constructor(deps: WatchDeps) {
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
