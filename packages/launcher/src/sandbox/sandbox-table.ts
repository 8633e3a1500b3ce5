/**
 * The records of all sandboxes, in memory and on disk, and the revision that `wait` watches. The list has only the principal
 * of a sandbox that is being created, and contains a sandbox until it is removed completely.
 */
import { type Layout, sandboxPaths } from "@bureau/os/layout";
import { isAlive } from "@bureau/os/process-table";
import { removeTree } from "@bureau/os/remove-tree";
import type { SandboxList } from "@bureau/schema/launcher-ipc";
import type { FleetLocalpart, PrincipalName } from "@bureau/schema/refs";
import { type SandboxRecord, statusOf, writeRecord } from "./record.ts";

/** Terminal output in one list. Further output is omitted: a response has at most 1 MiB (section 6.1). */
const OUTPUT_BYTES_MAX = 768 * 1024;

export class SandboxTable {
  readonly #records = new Map<PrincipalName, SandboxRecord>();
  readonly #waiters = new Set<() => void>();
  #revision: number;

  /** `firstRevision` is random, so that a caller's revision from before a restart never matches. */
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

  /** Writes the record to disk before the list shows it, so that a crash never undoes what a caller saw. */
  put(record: SandboxRecord): void {
    writeRecord(sandboxPaths(this.layout, this.fleet, record.principal).record, record);
    this.#records.set(record.principal, record);
    if (record.phase !== "creating") this.changed();
  }

  /** Removes the sandbox and its folder. */
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

  /** Call it after a change that the list shows: increments the revision and wakes waiters. */
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
