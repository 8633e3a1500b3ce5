/**
 * Reports that a program has ended or a proxy has died. Watches the script's exit-code file, which reports an end within
 * milliseconds. One sweep a second over all sandboxes finds ends that leave no file: a killed tmux server, a killed
 * shell, a proxy that an earlier launcher started. While no sandbox runs there is no timer.
 *
 * It only reports. The receiver decides under the principal's lock, because a report may come twice or be stale.
 */
import { existsSync, type FSWatcher, watch } from "node:fs";
import { basename } from "node:path";
import type { SandboxPaths } from "@bureau/os/layout";
import { isAlive } from "@bureau/os/process-table";
import type { PrincipalName } from "@bureau/schema/refs";
import type { SandboxRecord } from "./record.ts";

const SWEEP_MS = 1_000;

export type ExitWatchOptions = {
  readonly record: (principal: PrincipalName) => SandboxRecord | undefined;
  readonly paths: (principal: PrincipalName) => SandboxPaths;
  /** The program seems to have ended. */
  readonly onExit: (principal: PrincipalName) => void;
  /** A proxy has died, or runs again. */
  readonly onProxyChange: (principal: PrincipalName) => void;
};

type Watched = { readonly watcher: FSWatcher | undefined; missing: boolean; proxyAlive: boolean };

export class ExitWatch implements Disposable {
  readonly #watched = new Map<PrincipalName, Watched>();
  #timer: ReturnType<typeof setInterval> | undefined;
  constructor(readonly options: ExitWatchOptions) {}

  /** Watches a running sandbox. Checks it at once, for an exit before this call. */
  add(principal: PrincipalName): void {
    this.delete(principal);
    this.#watched.set(principal, { watcher: this.#watchFile(principal), missing: false, proxyAlive: true });
    this.#timer ??= setInterval(() => this.sweep(), SWEEP_MS);
    this.#look(principal);
  }

  delete(principal: PrincipalName): void {
    this.#watched.get(principal)?.watcher?.close();
    this.#watched.delete(principal);
    if (this.#watched.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Checks every sandbox now. */
  sweep(): void {
    for (const principal of [...this.#watched.keys()]) this.#look(principal);
  }

  [Symbol.dispose](): void {
    for (const principal of [...this.#watched.keys()]) this.delete(principal);
  }

  #watchFile(principal: PrincipalName): FSWatcher | undefined {
    const { dir, exitCode } = this.options.paths(principal);
    try {
      const watcher = watch(dir, (_event, name) => {
        if (name === basename(exitCode)) this.options.onExit(principal);
      });
      watcher.on("error", () => {});
      return watcher;
    } catch {
      // The host's limit of watches is reached: the sweep finds the exit within a second.
      return undefined;
    }
  }

  #look(principal: PrincipalName): void {
    const entry = this.#watched.get(principal);
    const record = this.options.record(principal);
    if (entry === undefined || record?.phase !== "running") return;
    const proxyAlive = record.proxy !== undefined && isAlive(record.proxy);
    if (proxyAlive !== entry.proxyAlive) {
      entry.proxyAlive = proxyAlive;
      this.options.onProxyChange(principal);
    }
    if (existsSync(this.options.paths(principal).exitCode)) {
      this.options.onExit(principal);
      return;
    }
    const { shell, bwrap } = record.processes ?? {};
    const gone = shell === undefined || !isAlive(shell) || bwrap === undefined || !isAlive(bwrap);
    // The exit code follows bubblewrap's end after a moment, so only the second check in a row reports.
    if (gone && entry.missing) this.options.onExit(principal);
    entry.missing = gone;
  }
}
