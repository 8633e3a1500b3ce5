import { expect, test } from "bun:test";
import { RoomStateStore } from "@bureau/matrix/room-state";
import { eventTypes } from "@bureau/schema/events";
import { parseMachine, parseRoomId, parseServerName, stateKeyOf, userIdOf } from "@bureau/schema/refs";
import { type Decommission, readDecommission } from "./decommission.ts";

const room = parseRoomId("!config:bureau.test");
const machine = stateKeyOf(
  userIdOf(parseMachine("bureau/fleet/test/machine/box"), parseServerName("bureau.test")),
);
const admin = "@admin:bureau.test";
const agent = "@bureau/fleet/test/agent/a:bureau.test";
const request = {
  grace_seconds: 60,
  requested_by: admin,
  requested_at: "2026-01-01T00:00:00Z",
};

type Put = { type: string; key?: string; content: Record<string, unknown>; sender?: string };

function read(...events: Put[]): { found: Decommission | undefined; faults: string[] } {
  const faults: string[] = [];
  const store = new RoomStateStore((ignored) => faults.push(ignored));
  const state = events.map(({ type, key = "", content, sender = admin }, index) => ({
    type,
    stateKey: key,
    content,
    sender,
    sentAt: 0,
    eventId: `$${index}`,
  }));
  const update = { state, timeline: [], limited: false };
  store.apply({ nextBatch: "1", joined: new Map([[room, update]]), invited: new Map(), left: [] });
  const view = store.room(room);
  if (view === undefined) throw new Error("no room");
  return { found: readDecommission(room, view, machine, (fault) => faults.push(fault)), faults };
}

const levels = (users: Record<string, number>, more: object = {}): Put => ({
  type: eventTypes.powerLevels,
  content: { users, ...more },
});
const asked = (content: Record<string, unknown> = request, sender = admin): Put => ({
  type: eventTypes.machineDecommission,
  key: machine,
  content,
  sender,
});

test("an administrator's request is valid, with its grace and its event", () => {
  expect(read(levels({ [admin]: 100 }), asked()).found).toEqual({ room, request: "$1", graceMs: 60_000 });
});

test("limits a grace to the launcher's maximum", () => {
  expect(read(levels({ [admin]: 100 }), asked({ ...request, grace_seconds: 1e6 })).found?.graceMs).toBe(
    600_000,
  );
});

test("ignores a cleared request, and one for another machine", () => {
  expect(read(levels({ [admin]: 100 }), asked({}))).toEqual({ found: undefined, faults: [] });
  expect(read(levels({ [admin]: 100 }), { ...asked(), key: "other:bureau.test" }).found).toBeUndefined();
});

test.each([
  ["an agent in the room", levels({ [admin]: 100 }), agent],
  ["the machine itself", levels({ [admin]: 100, [agent]: 50 }), agent],
  ["a user in a room without levels", levels({}), admin],
])("refuses and reports a request of %s", (_, power, sender) => {
  const { found, faults } = read(power, asked(request, sender));
  expect(found).toBeUndefined();
  expect(faults.join()).toContain(sender);
});

test("without a power levels event no request is valid", () => {
  expect(read(asked()).found).toBeUndefined();
});

test("accepts a room creator without a power level only in room versions that allow it", () => {
  const create = (version: string): Put => ({
    type: "m.room.create",
    content: { room_version: version, additional_creators: ["@second:bureau.test"] },
  });
  expect(read(create("12"), levels({}), asked()).found).toBeDefined();
  expect(read(create("12"), levels({}), asked(request, "@second:bureau.test")).found).toBeDefined();
  expect(read(create("12"), levels({}), asked(request, agent)).found).toBeUndefined();
  expect(read(create("11"), levels({}), asked()).found).toBeUndefined();
});

test("an unreadable request stops nothing, and is reported", () => {
  const { found, faults } = read(levels({ [admin]: 100 }), asked({ grace_seconds: "long" }));
  expect(found).toBeUndefined();
  expect(faults).toHaveLength(1);
});
