/**
 * The records of all sandboxes, in memory and on disk, and the revision that `wait` watches. The list has only the principal
 * of a sandbox that is being created, and contains a sandbox until it is removed completely.
 *
 * Every change of one sandbox increments the revision, and a log of bounded length names its principal. So a caller that
 * holds the list of an earlier revision gets what changed since, at a cost that does not grow with the number of sandboxes.
 */
import { type Layout, sandboxPaths } from "@bureau/os/layout";
import { whenEnded } from "@bureau/os/process-end";
import { isSameProcess, type ProcessId } from "@bureau/os/process-table";
import { removeTree } from "@bureau/os/remove-tree";
import type { SandboxList, SandboxStatus } from "@bureau/schema/launcher-ipc";
import type { FleetLocalpart, PrincipalName } from "@bureau/schema/refs";
import { isWhole, type SandboxRecord, statusOf, writeRecord } from "./record.ts";

/** A sandbox's proxy. It has ended when `watch` has reported that. */
type WatchedProxy = { readonly id: ProcessId; readonly watch: Disposable; ended: boolean };

/** Of one list, counted as JSON, which is about as long as CBOR: a response has at most 1 MiB (section 6.1). */
const LIST_BYTES_MAX = 896 * 1024;
/** Changes that are remembered: a caller that missed more gets the whole list. */
const CHANGES_MAX = 4_096;
/** A random first revision is below it: a revision from before a restart is never in the log, and all are safe integers. */
export const FIRST_REVISION_MAX = 2 ** 52;

export class SandboxTable implements Disposable {
  readonly #records = new Map<PrincipalName, SandboxRecord>();
  readonly #proxies = new Map<PrincipalName, WatchedProxy>();
  readonly #waiters = new Set<() => void>();
  #revision: number;
  /** The principals of the last changes; the last one led to the current revision. */
  readonly #changes: PrincipalName[] = [];

  /** `firstRevision` is random, so that a caller's revision from before a restart is unknown. */
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
    this.adopt(record);
  }

  /** Lists a record as it is on disk. */
  adopt(record: SandboxRecord): void {
    const { principal, phase } = record;
    const wasListed = isWhole(this.#records.get(principal));
    this.#records.set(principal, record);
    this.#watchProxy(record);
    if (wasListed || phase !== "creating") this.#changed(principal);
  }

  /** Removes the sandbox and its folder. */
  remove(principal: PrincipalName): void {
    removeTree(sandboxPaths(this.layout, this.fleet, principal).dir);
    this.#proxies.get(principal)?.watch[Symbol.dispose]();
    this.#proxies.delete(principal);
    if (this.#records.delete(principal)) this.#changed(principal);
  }

  /** The list shows a proxy as running until the kernel reports its end, which is a change of the list. */
  #watchProxy({ principal, proxy: id }: SandboxRecord): void {
    const before = this.#proxies.get(principal);
    if (before !== undefined && id !== undefined && isSameProcess(before.id, id)) return;
    before?.watch[Symbol.dispose]();
    this.#proxies.delete(principal);
    if (id === undefined) return;
    const watch = whenEnded(id, () => {
      const ended = this.#proxies.get(principal);
      if (ended !== undefined) ended.ended = true;
      this.#changed(principal);
    });
    this.#proxies.set(principal, { id, watch, ended: false });
  }

  /** The whole list; only what changed after the revision `since` when the log still reaches back to it. */
  list(since?: number): SandboxList {
    const creating = [...this.#records.values()].flatMap(({ principal, phase }) =>
      phase === "creating" ? [principal] : [],
    );
    const changed = since === undefined ? undefined : this.#changedAfter(since);
    if (since === undefined || changed === undefined)
      return { revision: this.#revision, sandboxes: this.#statuses(this.all()), creating };
    const records = changed.flatMap((principal) => this.#records.get(principal) ?? []);
    const sandboxes = this.#statuses(records);
    const listed = new Set(sandboxes.map(({ principal }) => principal));
    const removed = changed.filter((principal) => !listed.has(principal));
    return { revision: this.#revision, since, sandboxes, removed, creating };
  }

  /** The principals of the changes after `since`, each once; undefined when the log does not reach back to it. */
  #changedAfter(since: number): PrincipalName[] | undefined {
    const missed = this.#revision - since;
    if (missed < 0 || missed > this.#changes.length) return undefined;
    return missed === 0 ? [] : [...new Set(this.#changes.slice(-missed))];
  }

  /** After a change of a sandbox that the list shows: increments the revision and wakes waiters. */
  #changed(principal: PrincipalName): void {
    this.#revision += 1;
    this.#changes.push(principal);
    if (this.#changes.length > 2 * CHANGES_MAX) this.#changes.splice(0, CHANGES_MAX);
    for (const wake of [...this.#waiters]) wake();
  }

  /** Resolves when the revision is not `since`, after `timeoutMs`, or when `signal` aborts. */
  async waitForChange(since: number, timeoutMs: number, signal: AbortSignal): Promise<void> {
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
  }

  #statuses(records: readonly SandboxRecord[]): SandboxStatus[] {
    const statuses = records
      .filter(isWhole)
      .map((record) => statusOf(record, this.#proxies.get(record.principal)?.ended === false));
    return withinOneAnswer(statuses);
  }

  [Symbol.dispose](): void {
    for (const { watch } of this.#proxies.values()) watch[Symbol.dispose]();
  }
}

/** Omits outputs that do not fit into one answer beside everything else. */
function withinOneAnswer(statuses: readonly SandboxStatus[]): SandboxStatus[] {
  const bare = statuses.map((status) =>
    status.exit === undefined ? status : { ...status, exit: { ...status.exit, output: undefined } },
  );
  let room = bare.reduce((left, one) => left - Buffer.byteLength(JSON.stringify(one)), LIST_BYTES_MAX);
  return statuses.map((status, index) => {
    const bytes = Buffer.byteLength(status.exit?.output ?? "");
    if (bytes > room) return bare[index] ?? status;
    room -= bytes;
    return status;
  });
}
