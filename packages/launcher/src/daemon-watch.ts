/**
 * Watches a daemon of a new build: the launcher kills it when it does not confirm before the deadline that it works. Then
 * the service manager starts the last confirmed build.
 *
 * A file holds the watch, so that a launcher that starts after a crash or an upgrade continues it with the same deadline.
 * No process survives a reboot, so the file is in the run folder.
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
  /** Milliseconds since the epoch, for launchers that do not read `ends_at_uptime`. */
  ends_at: v.number(),
  /** Milliseconds since boot: a change of the clock does not affect it. */
  ends_at_uptime: v.optional(v.number()),
  /** The remaining time is never longer than this, even after a change of the clock. */
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

  /** The daemon process that was killed because it did not confirm in time that it works. */
  get ended(): number | undefined {
    return this.#ended;
  }

  /** Kills that process unless {@link release} is called within `deadlineMs`. Replaces an earlier watch. */
  begin(daemon: ProcessId, deadlineMs: number): void {
    this.#end();
    if (!isAlive(daemon))
      throw new BureauError("not-found", `Cannot watch process ${daemon.pid}: it does not exist`);
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
        "killed the daemon: it did not confirm in time that it works",
        {
          pid: daemon.pid,
        },
      );
    }, inMs);
    this.#watched = { daemon, timer };
  }

  /** An unreadable file ends the watch. */
  #read(): v.InferOutput<typeof WatchSchema> | undefined {
    try {
      const text = readIfPresent(this.#file);
      return text === undefined ? undefined : parseJson(WatchSchema, text, this.#file);
    } catch (error) {
      this.#deps.log.warn(
        "upgrade.watch-unreadable",
        "cannot read which daemon was watched; the watch ends",
        {
          file: this.#file,
          error,
        },
      );
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
