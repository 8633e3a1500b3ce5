/**
 * What the upgrader knows, as far as the disk lets it: the state and the watchdog record. What a step relies on is
 * written first or the step is not taken; what has come to its end has, also when that cannot be written, which is then
 * done as soon as there is room.
 */
import type { Clock } from "@bureau/kit/clock";
import type { Log } from "@bureau/kit/log";
import { type Layout, upgradeStateFile } from "@bureau/os/layout";
import {
  bootId,
  clearWatchdogRecord,
  readWatchdogRecord,
  takeWentBack,
  type WatchdogRecord,
  writeWatchdogRecord,
} from "@bureau/os/watchdog-record";
import type { MachineVersion } from "@bureau/schema/events";
import { readUpgradeState, recalled, type UpgradeState, writeUpgradeState } from "./upgrade-state.ts";

type MemoryDeps = {
  readonly layout: Layout;
  readonly clock: Clock;
  readonly log: Log;
  /** The state is another one now. */
  readonly changed: () => void;
};

export class UpgradeMemory {
  readonly #deps: MemoryDeps;
  /** As the program before this one left it. */
  readonly record: WatchdogRecord | undefined;
  #state: UpgradeState;
  #isWritten = true;
  /** It was said once that the disk does not take it. */
  #hasComplained = false;

  constructor(deps: MemoryDeps) {
    const { layout, clock, log } = deps;
    this.#deps = deps;
    this.#state = readUpgradeState(upgradeStateFile(layout), log);
    this.record = takeWentBack(readWatchdogRecord(layout, "daemon", clock.now()));
  }

  get state(): UpgradeState {
    return this.#state;
  }

  /** False while the disk does not hold what is known here. */
  get isWritten(): boolean {
    return this.#isWritten;
  }

  /** Before the next step is taken. @throws when it cannot be written; what is known here is the new state even so */
  advance(state: UpgradeState): void {
    this.#state = state;
    this.#isWritten = false;
    this.#deps.changed();
    writeUpgradeState(upgradeStateFile(this.#deps.layout), state);
    this.#isWritten = true;
  }

  /**
   * Something has come to its end, be that written now or later. Where no request is under way any more there is no
   * record of one either.
   */
  conclude(state: UpgradeState): void {
    this.#state = state;
    this.#isWritten = false;
    this.#deps.changed();
    this.writeLeft();
  }

  /** What could not be written until now. The record stays for as long, because it says the same to who starts next. */
  writeLeft(): void {
    const { layout, log } = this.#deps;
    if (this.#isWritten) return;
    try {
      writeUpgradeState(upgradeStateFile(layout), this.#state);
      if (this.#state.current === undefined) clearWatchdogRecord(layout, "daemon");
      this.#isWritten = true;
      this.#hasComplained = false;
    } catch (error) {
      if (!this.#hasComplained)
        log.error("upgrade.outcome-unrecorded", "what became of a version cannot be written down yet", {
          error,
        });
      this.#hasComplained = true;
    }
  }

  /** What this machine once said of itself in its room, and does not know any more. */
  recall(said: MachineVersion | undefined): void {
    const state = said === undefined ? this.#state : recalled(this.#state, said);
    // Also while a request is under way, whose record stays.
    if (state !== this.#state) this.conclude(state);
  }

  /** Says that the program is being replaced, and why it went back if it did. @throws when it cannot be written */
  writeRecord(why: Pick<WatchdogRecord, "reason" | "blames">): void {
    const { layout, clock } = this.#deps;
    const { current } = this.#state;
    if (current === undefined) return;
    writeWatchdogRecord(layout, {
      component: "daemon",
      ...{ previous_binary: current.from, new_binary: current.request.path },
      timestamp: Math.floor(clock.now() / 1_000),
      ...{ request_id: current.request.request_id, boot_id: bootId(), ...why },
    });
  }

  clearRecord(): void {
    clearWatchdogRecord(this.#deps.layout, "daemon");
  }
}
