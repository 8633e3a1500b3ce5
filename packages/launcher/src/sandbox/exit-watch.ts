/**
 * Reports that a sandbox has ended: its bubblewrap, or the shell around it. The kernel reports both ends as events, so a
 * sandbox that runs costs nothing, and no end is missed: a killed tmux server or shell ends these processes, too.
 *
 * It only reports. The receiver decides under the principal's lock, because a report may come twice or be stale.
 */
import { whenEnded } from "@bureau/os/process-end";
import type { PrincipalName } from "@bureau/schema/refs";
import type { SandboxProcesses } from "./record.ts";

export class ExitWatch implements Disposable {
  readonly #watched = new Map<PrincipalName, DisposableStack>();
  readonly #onExit: (principal: PrincipalName) => void;

  /** `onExit`: the sandbox seems to have ended. */
  constructor(onExit: (principal: PrincipalName) => void) {
    this.#onExit = onExit;
  }

  /** Watches a running sandbox. Reports it soon when it ended before this call, or its processes are not known. */
  add(principal: PrincipalName, { shell, bwrap }: Partial<SandboxProcesses>): void {
    this.delete(principal);
    const watches = new DisposableStack();
    this.#watched.set(principal, watches);
    const report = (): void => this.#onExit(principal);
    if (shell === undefined || bwrap === undefined) queueMicrotask(report);
    for (const id of [shell, bwrap]) if (id !== undefined) watches.use(whenEnded(id, report));
  }

  delete(principal: PrincipalName): void {
    this.#watched.get(principal)?.dispose();
    this.#watched.delete(principal);
  }

  [Symbol.dispose](): void {
    for (const principal of [...this.#watched.keys()]) this.delete(principal);
  }
}
