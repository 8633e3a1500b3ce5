/** The launcher's part of an upgrade, which the daemon drives and watches from outside. */
import { isBureauError, messageOf } from "@bureau/kit/errors";
import type { Runtime } from "@bureau/kit/runtime";
import type { HeldProcess } from "@bureau/os/posix";
import { identify } from "@bureau/os/process-table";
import type { LauncherResponse } from "@bureau/schema/launcher-ipc";
import type { Launcher } from "../launcher/launcher-client.ts";
import type { UpgradeTimes } from "./upgrade-times.ts";

const POLL_MS = 200;
/** A launcher that works answers in milliseconds. */
const ANSWER_MS_MAX = 5_000;

/** The fault of a launcher that may only be slow. */
export const silent = "the launcher does not answer";

export type LauncherStatus = LauncherResponse<"status">;

export type LauncherUpgradeDeps = Pick<Runtime, "clock" | "log"> & {
  readonly launcher: Launcher;
  /** Principals whose sandbox the launcher must know; the list may shrink during the check. */
  readonly sandboxes: () => readonly string[];
  /** A handle on a process, to end it later. */
  readonly hold: (pid: number) => HeldProcess | undefined;
  readonly times: UpgradeTimes;
};

export class LauncherUpgrade {
  readonly #deps: LauncherUpgradeDeps;
  #seen: LauncherStatus | undefined;
  #held: HeldProcess | undefined;
  /** It answered the last request. */
  #answers = false;

  constructor(deps: LauncherUpgradeDeps) {
    this.#deps = deps;
  }

  /** Its last status. */
  get seen(): LauncherStatus | undefined {
    return this.#seen;
  }

  async look(): Promise<LauncherStatus | undefined> {
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    const status = await this.#deps.launcher.call("status", {}, { signal }).catch(() => undefined);
    this.#seen = status ?? this.#seen;
    this.#answers = status !== undefined;
    return status;
  }

  /** Principals whose program runs; undefined when the launcher does not answer. */
  async running(): Promise<string[] | undefined> {
    const list = await this.#list();
    return list?.filter(({ state }) => state === "running").map(({ principal }) => principal);
  }

  /** The builds that sandboxes see; undefined when that is unknown for one of them. */
  async programsInUse(): Promise<string[] | undefined> {
    const used = (await this.#list())?.map(({ programs_dir }) => programs_dir);
    return used?.every((path) => path !== undefined) === true ? used : undefined;
  }

  /**
   * Its fault, given the principals that ran before (it still knows a sandbox that has ended since) and, where it
   * matters, its expected build: when a launcher ends, the service manager starts the previous build, which answers as
   * well.
   */
  async fault(path?: string): Promise<string | undefined> {
    const list = await this.#list();
    if (list === undefined) return silent;
    const known = new Set<string>(list.map(({ principal }) => principal));
    const lost = this.#deps.sandboxes().filter((principal) => !known.has(principal));
    if (lost.length > 0) return `the launcher no longer knows: ${lost.join(", ")}`;
    if (path === undefined) return undefined;
    // After the list, so that the status comes from the launcher that gave the list, or from a later one.
    const status = await this.look();
    if (status === undefined) return silent;
    return status.programs_dir === path
      ? undefined
      : (status.exec_fault ?? "it ended, and the previous launcher runs again");
  }

  async #list() {
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    const list = await this.#deps.launcher.call("list-sandboxes", {}, { signal }).catch(() => undefined);
    this.#answers = list !== undefined;
    return list?.sandboxes ?? (list === undefined ? undefined : []);
  }

  /**
   * Requests that it executes the build at `path`; undefined once that build runs and knows every sandbox, else the
   * fault.
   */
  async change(path: string, requestId: string): Promise<string | undefined> {
    const before = await this.look();
    if (before === undefined) return silent;
    await this.#hold(before.pid);
    if (before.programs_dir !== path) {
      const refused = await this.#ask(path, requestId);
      if (refused !== undefined) return refused;
    }
    const { clock, times } = this.#deps;
    let fault: string | undefined = "it did not answer";
    for (const end = clock.monotonic() + times.launcherProof; clock.monotonic() < end; ) {
      const status = await this.look();
      if (status?.programs_dir === path) {
        fault = await this.fault();
        if (fault === undefined) return undefined;
      } else if (status?.exec_fault !== undefined) return status.exec_fault;
      await clock.sleep(POLL_MS);
    }
    return `${fault} within ${times.launcherProof / 1_000} s`;
  }

  async #ask(path: string, requestId: string): Promise<string | undefined> {
    try {
      await this.#deps.launcher.call("exec-update", { programs_dir: path, request_id: requestId });
      return undefined;
    } catch (error) {
      // A lost answer proves nothing; the launcher's next status does.
      return isBureauError(error) && error.code === "unavailable" ? undefined : messageOf(error);
    }
  }

  /**
   * Rolls the launcher back from the build at `path`: returns when the launcher of another build answers. A launcher
   * that does not replace itself in time (full disk, hang) is killed; the service manager then starts the previous
   * build.
   */
  async takeBack(path: string, previous: string, requestId: string): Promise<void> {
    const { times, log } = this.#deps;
    const isBack = (status: LauncherStatus | undefined) =>
      status !== undefined && status.programs_dir !== path;
    let status = await this.#lookUntil((seen) => seen !== undefined, times.launcherProof);
    if (isBack(status)) return;
    log.warn("upgrade.launcher-rollback", "rolling the launcher back, too", { to: previous });
    if (status !== undefined) {
      await this.#hold(status.pid);
      const refused = await this.#ask(previous, requestId);
      const hasAnswered = (seen: LauncherStatus | undefined) =>
        isBack(seen) || seen?.exec_fault !== undefined;
      if (refused === undefined) status = await this.#lookUntil(hasAnswered, times.launcherProof);
      if (isBack(status)) return;
      log.warn("upgrade.launcher-rollback-failed", "the launcher cannot roll itself back", {
        reason: refused ?? status?.exec_fault ?? "it hangs",
      });
    }
    this.#end();
    if (!isBack(await this.#lookUntil(isBack, times.launcherProof)))
      log.error("upgrade.launcher-stuck", "cannot replace the launcher of the build that is rolled back", {
        path,
      });
  }

  /** The first status that satisfies the condition, or the last one when the time is up. */
  async #lookUntil(
    enough: (status: LauncherStatus | undefined) => boolean,
    timeoutMs: number,
  ): Promise<LauncherStatus | undefined> {
    const { clock } = this.#deps;
    const deadline = clock.monotonic() + timeoutMs;
    for (;;) {
      const status = await this.look();
      if (enough(status) || clock.monotonic() >= deadline) return status;
      await clock.sleep(POLL_MS);
    }
  }

  /** Tells the launcher to stop watching this process. Retries until the launcher answers. */
  async unwatch(stop: AbortSignal): Promise<void> {
    const { launcher, clock } = this.#deps;
    while (!stop.aborted) {
      const signal = AbortSignal.any([stop, AbortSignal.timeout(ANSWER_MS_MAX)]);
      try {
        await launcher.call("watched-ok", { pid: process.pid }, { signal });
        return;
      } catch {
        await clock.sleep(POLL_MS, stop);
      }
    }
  }

  /** Kills a launcher that did not answer the last request, if it is the one that was asked to change. */
  endIfHung(): void {
    if (!this.#answers) this.#end();
  }

  /** Lets the launcher end this daemon unless this daemon reports in within `deadlineMs`. */
  async watch(deadlineMs: number): Promise<void> {
    const self = identify(process.pid);
    if (self === undefined) return;
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    const watch = { pid: self.pid, start_ticks: self.startTicks, deadline_ms: deadlineMs };
    await this.#deps.launcher.call("watch-daemon", watch, { signal });
  }

  /** {@link watch}; false when the request did not reach the launcher. @throws when the launcher refused it */
  async isWatching(deadlineMs: number): Promise<boolean> {
    try {
      await this.watch(deadlineMs);
      return true;
    } catch (error) {
      if (isBureauError(error) && (error.code === "unavailable" || error.code === "timeout")) return false;
      throw error;
    }
  }

  /**
   * Opens a handle on the launcher's process while the launcher answers: later its pid may belong to another process.
   * The service's own /proc does not show the launcher, because it closes itself to other processes.
   */
  async #hold(pid: number): Promise<void> {
    this.#held?.[Symbol.dispose]();
    this.#held = this.#deps.hold(pid);
    if ((await this.look())?.pid === pid) return;
    this.#held?.[Symbol.dispose]();
    this.#held = undefined;
  }

  /** The service manager then starts the build that is known to work. */
  #end(): void {
    if (this.#held?.kill() !== true) return;
    this.#deps.log.error("upgrade.launcher-killed", "killed the launcher");
  }
}
