/**
 * Every sandbox the launcher knows, in memory and on disk alike, and the revision that `wait` watches. Of a sandbox being
 * created the list has no more than its principal; one being destroyed is until nothing of it is left.
 */
import { type Layout, sandboxPaths } from "@bureau/os/layout";
import { isAlive } from "@bureau/os/process-table";
import { removeTree } from "@bureau/os/remove-tree";
import type { SandboxList } from "@bureau/schema/launcher-ipc";
import type { FleetLocalpart, PrincipalName } from "@bureau/schema/refs";
import { type SandboxRecord, statusOf, writeRecord } from "./record.ts";

/** Terminal output in one list; more is left out, because a response has at most 1 MiB (section 6.1). */
const OUTPUT_BYTES_MAX = 768 * 1024;

export class SandboxTable {
  readonly #records = new Map<PrincipalName, SandboxRecord>();
  readonly #waiters = new Set<() => void>();
  #revision: number;

  /** `firstRevision` is random, so that a caller's number from before a restart is not taken for the present. */
  constructor(
    readonly layout: Layout,
    readonly fleet: FleetLocalpart,
    firstRevision: number,
  ) {
    this.#revision = firstRevision;
  }

  get(principal: PrincipalName): SandboxRecord | undefined {
    return this.#records.get(principal);
  }

  /** In order of principal. */
  all(): SandboxRecord[] {
    return [...this.#records.values()].sort((a, b) => (a.principal < b.principal ? -1 : 1));
  }

  /** Persists, then shows: what a caller sees survives a crash. */
  put(record: SandboxRecord): void {
    writeRecord(sandboxPaths(this.layout, this.fleet, record.principal).record, record);
    this.#records.set(record.principal, record);
    if (record.phase !== "creating") this.changed();
  }

  /** Forgets the sandbox; its folder goes with it. */
  remove(principal: PrincipalName): void {
    removeTree(sandboxPaths(this.layout, this.fleet, principal).dir);
    if (this.#records.delete(principal)) this.changed();
  }

  list(): SandboxList {
    let room = OUTPUT_BYTES_MAX;
    const sandboxes = this.all()
      .filter(({ phase }) => phase !== "creating")
      .map((record) => {
        room -= Buffer.byteLength(record.exit?.output ?? "");
        const status = statusOf(record, record.proxy !== undefined && isAlive(record.proxy));
        if (room >= 0 || status.exit === undefined) return status;
        return { ...status, exit: { ...status.exit, output: undefined } };
      });
    const creating = this.all().flatMap(({ principal, phase }) => (phase === "creating" ? [principal] : []));
    return { revision: this.#revision, sandboxes, creating };
  }

  /** Something about a sandbox is no longer what the last list said. */
  changed(): void {
    this.#revision += 1;
    for (const wake of [...this.#waiters]) wake();
  }

  /** Resolves when the revision is not `since`, after `timeoutMs`, or when `signal` aborts. */
  async waitForChange(since: number, timeoutMs: number, signal: AbortSignal): Promise<SandboxList> {
    if (this.#revision === since && !signal.aborted)
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          signal.removeEventListener("abort", wake);
          this.#waiters.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, timeoutMs);
        signal.addEventListener("abort", wake, { once: true });
        this.#waiters.add(wake);
      });
    return this.list();
  }
}
