/**
 * What the upgrader knows, as far as the disk takes it: the state and the watchdog record. What a step relies on is
 * written first, or the step is not taken. A result counts also when it cannot be written; it is written as soon as
 * there is room.
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
  /** As the program before this one left it. */
  readonly record: WatchdogRecord | undefined;
  #state: UpgradeState;
  #isWritten = true;
  /** The log already says that the disk does not take it. */
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

  /** False while the disk does not hold the state. */
  get isWritten(): boolean {
    return this.#isWritten;
  }

  /** The state from now on; {@link write} or {@link writeLeft} puts it on the disk. */
  set(state: UpgradeState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#isWritten = false;
    this.#deps.changed();
  }

  /** @throws when the disk does not take it; the state stays even so */
  write(): void {
    this.#deps.host.writeState(this.#state);
    this.#isWritten = true;
  }

  /**
   * Writes what is not written yet, or logs once that it cannot. When no request is under way the record goes too. Until
   * then it stays, because it tells the next program the same.
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

  /** Notes that the program is being replaced, and why it went back if it did. @throws when it cannot be written */
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
