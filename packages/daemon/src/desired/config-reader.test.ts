import { expect, test } from "bun:test";
import { RoomStateStore, type RoomView } from "@bureau/matrix/room-state";
import { eventTypes } from "@bureau/schema/events";
import { parseRoomId } from "@bureau/schema/refs";
import { ConfigReader, configSentAt } from "./config-reader.ts";

const room = parseRoomId("!config");
const operator = "@operator:bureau.test";
const key = "bureau/fleet/test/machine/box:bureau.test";
const entry = (name: string, more: object = {}) => ({
  principal: `@bureau/fleet/test/agent/${name}:bureau.test`,
  template: "bureau/template:agent",
  auto_start: true,
  ...more,
});

class World {
  readonly #states = new RoomStateStore();
  readonly #reader = new ConfigReader();
  #events = 0;

  constructor() {
    this.put("m.room.create", "", {});
    this.put(eventTypes.powerLevels, "", { users: { [operator]: 50 } });
  }

  put(type: string, stateKey: string, content: Record<string, unknown>, sender = operator): void {
    const event = { type, stateKey, content, sender, sentAt: ++this.#events, eventId: `$${this.#events}` };
    const update = { state: [event], timeline: [], limited: false };
    this.#states.apply({ nextBatch: "1", joined: new Map([[room, update]]), invited: new Map(), left: [] });
  }

  config = (...principals: unknown[]): void => this.put(eventTypes.machineConfig, key, { principals });
  page = (number: number, ...principals: unknown[]): void =>
    this.put(eventTypes.machineConfigPage, String(number), { principals });

  get view(): RoomView {
    const view = this.#states.room(room);
    if (view === undefined) throw new Error("no room");
    return view;
  }

  read(): { readonly principals: readonly unknown[] | undefined; readonly faults: readonly string[] } {
    const faults: string[] = [];
    const config = this.#reader.read(this.view, key, (fault) => faults.push(fault));
    return { principals: config?.principals, faults };
  }
}

test("joins machine_config and its pages by number, and keeps the entries' identity", () => {
  const world = new World();
  const [a, b, c] = [entry("a"), entry("b"), entry("c")];
  world.page(2, c);
  world.page(1, b);
  world.config(a);
  const { principals, faults } = world.read();
  expect(faults).toEqual([]);
  expect(principals?.map((one, index) => one === [a, b, c][index])).toEqual([true, true, true]);
  expect(configSentAt(world.view, key)).toBe(5);
});

test("a principal in two places is a fault, and machine_config wins", () => {
  const world = new World();
  world.config(entry("a"));
  world.page(1, entry("a", { auto_start: false }), entry("b"));
  const { principals, faults } = world.read();
  expect(principals).toEqual([entry("a"), entry("b")]);
  expect(faults).toEqual([expect.stringContaining("agent/a:bureau.test is assigned more than once")]);
});

test("one event that repeats a principal keeps both entries: the assignment is refused later", () => {
  const world = new World();
  world.config(entry("a"), entry("a"));
  world.page(1, entry("b"));
  expect(world.read().principals).toHaveLength(3);
});

test("an empty machine_config stops all, also what is in pages", () => {
  const world = new World();
  world.page(1, entry("b"));
  world.put(eventTypes.machineConfig, key, {});
  expect(world.read()).toEqual({ principals: [], faults: [] });
});

test("a page that cannot be read or is missing makes the whole unreadable", () => {
  const world = new World();
  world.config(entry("a"));
  world.page(1, entry("b"));
  world.page(2, entry("c"));
  expect(world.read().principals).toHaveLength(3);
  world.put(eventTypes.machineConfigPage, "1", { principals: "all" });
  expect(world.read().principals).toBeUndefined();
  expect(world.read().faults).toEqual([expect.stringContaining('machine_config_page "1"')]);
  // Written by a user without the power, the page counts as absent.
  world.page(1, entry("b"));
  world.put(eventTypes.machineConfigPage, "2", { principals: [] }, "@stranger:bureau.test");
  expect(world.read()).toMatchObject({
    principals: undefined,
    faults: [expect.stringContaining('page "2" event is gone')],
  });
});

test("an empty page holds nothing, and keys that are not numbers of pages are ignored", () => {
  const world = new World();
  world.config(entry("a"));
  world.page(1);
  world.put(eventTypes.machineConfigPage, "2", {});
  world.put(eventTypes.machineConfigPage, "next", { principals: [entry("x")] });
  world.put(eventTypes.machineConfigPage, "65", { principals: [entry("y")] });
  expect(world.read()).toEqual({ principals: [entry("a")], faults: [] });
});
