/**
 * The upgrader's state and watchdog record on disk. The data that a step relies on is written before the step; if the
 * write fails, the step is not taken. A result is valid also when it cannot be written; it is written as soon as there
 * is room.
 */
import type { Runtime } from "@bureau/kit/runtime";
import type { WatchdogRecord } from "@bureau/os/watchdog-record";
import type { UpgradeHost } from "./upgrade-host.ts";
import type { UpgradeState } from "./upgrade-state.ts";

type StoreDeps = Pick<Runtime, "clock" | "log"> & {
  readonly host: UpgradeHost;
  /** Called at each change of the state. */
  readonly changed: () => void;
};

export class UpgradeStore {
  readonly #deps: StoreDeps;
  /** As the previous program left it. */
  readonly record: WatchdogRecord | undefined;
  #state: UpgradeState;
  #isWritten = true;
  /** The failed write has already been logged. */
  #hasComplained = false;

  constructor(deps: StoreDeps) {
    const { host, clock } = deps;
    this.#deps = deps;
    this.#state = host.readState();
    this.record = host.readRecord(clock.now());
  }

  get state(): UpgradeState {
    return this.#state;
  }

  /** False while the state is not on the disk. */
  get isWritten(): boolean {
    return this.#isWritten;
  }

  /** Sets the state; {@link write} or {@link writeLeft} puts it on the disk. */
  set(state: UpgradeState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#isWritten = false;
    this.#deps.changed();
  }

  /** @throws when the disk does not take it; the state in memory stays */
  write(): void {
    this.#deps.host.writeState(this.#state);
    this.#isWritten = true;
  }

  /**
   * Writes unwritten state, or logs once that it cannot. Removes the record when no request is under way; until then
   * the record stays, because the next program reads the same from it.
   */
  writeLeft(): void {
    const { host, log } = this.#deps;
    if (this.#isWritten) return;
    try {
      host.writeState(this.#state);
      if (this.#state.current === undefined) host.clearRecord();
      this.#isWritten = true;
      this.#hasComplained = false;
    } catch (error) {
      if (!this.#hasComplained)
        log.error("upgrade.outcome-unrecorded", "cannot write the upgrade state yet", { error });
      this.#hasComplained = true;
    }
  }

  /** Records that the program is being replaced, and the reason of a rollback. @throws when it cannot be written */
  writeRecord(why: Pick<WatchdogRecord, "reason" | "blames">): void {
    const { host, clock } = this.#deps;
    const { current } = this.#state;
    if (current === undefined) return;
    host.writeRecord({
      component: "daemon",
      previous_binary: current.from,
      new_binary: current.request.path,
      timestamp: Math.floor(clock.now() / 1_000),
      request_id: current.request.request_id,
      boot_id: host.bootId,
      ...why,
    });
  }

  clearRecord(): void {
    this.#deps.host.clearRecord();
  }
}
