/**
 * Reads a machine's configuration: `machine_config` and its pages, as one list of assignments. A part that cannot be read makes
 * the whole unreadable, and the caller keeps the last good one: without a page its agents would seem to be destroyed.
 */
import type { RoomView } from "@bureau/matrix/room-state";
import { CONFIG_PAGES_MAX, configPageKey, configPageNumber, joinEntries } from "@bureau/schema/config-pages";
import {
  eventTypes,
  isCleared,
  type MachineConfig,
  MachineConfigPageSchema,
  MachineConfigSchema,
} from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";

/** When the newest event of the configuration was sent, readable or not: milliseconds since the epoch. */
export function configSentAt(view: RoomView, key: string): number | undefined {
  const events = [view.get(eventTypes.machineConfig, key), ...view.ofType(eventTypes.machineConfigPage)];
  const times = events.flatMap((event) => (event === undefined ? [] : [event.sentAt]));
  return times.length === 0 ? undefined : Math.max(...times);
}

export class ConfigReader {
  /** Pages that a good configuration had. */
  #pages = 0;
  #isKnown = false;

  /**
   * Undefined when there is none or when it cannot be read; `fault` receives why. The entries are the objects of the events.
   */
  read(view: RoomView, key: string, fault: (sentence: string) => void): MachineConfig | undefined {
    const event = view.get(eventTypes.machineConfig, key);
    if (event === undefined) {
      // A machine that has never had a configuration is new: not a fault.
      if (this.#isKnown) fault("the machine_config event is gone; the last one holds");
      return undefined;
    }
    try {
      const config = parse(MachineConfigSchema, event.content, `${eventTypes.machineConfig} "${key}"`);
      // Other implementations stop all of a machine by an empty machine_config; they know no pages.
      const pages = isCleared(event.content) ? [] : this.#pagesOf(view);
      const lists = pages.map(
        ({ stateKey, content }) =>
          parse(MachineConfigPageSchema, content, `${eventTypes.machineConfigPage} "${stateKey}"`).principals,
      );
      const { entries, repeated } = joinEntries([config.principals, ...lists]);
      for (const user of repeated)
        fault(`${user} is assigned more than once, in different events; the first one holds`);
      this.#isKnown = true;
      this.#pages = pages.length;
      return { ...config, principals: [...entries] };
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      fault(error.message);
      return undefined;
    }
  }

  /** In order. @throws InputError when one is missing */
  #pagesOf(view: RoomView) {
    const byNumber = new Map(
      view.ofType(eventTypes.machineConfigPage).map((page) => [configPageNumber(page.stateKey), page]),
    );
    byNumber.delete(undefined);
    const numbers = [...byNumber.keys()].map((number) => number ?? 0);
    const last = Math.min(Math.max(this.#pages, ...numbers), CONFIG_PAGES_MAX);
    return Array.from({ length: last }, (_, index) => {
      const page = byNumber.get(index + 1);
      if (page !== undefined) return page;
      const name = `${eventTypes.machineConfigPage} "${configPageKey(index + 1)}"`;
      throw new InputError("the configuration", [`the ${name} event is gone; the last configuration holds`]);
    });
  }
}
