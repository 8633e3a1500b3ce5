import { expect, test } from "bun:test";
import { RoomStateStore } from "@bureau/matrix/room-state";
import { silentLog } from "@bureau/os/testing/silent-log";
import { eventTypes } from "@bureau/schema/events";
import { parseMachine, parseRoomId, parseServerName } from "@bureau/schema/refs";
import type { EventMessage } from "../event-messages/event-message.ts";
import { noMembers } from "../testing/no-members.ts";
import { DesiredResolver } from "./desired-resolver.ts";
import { DesiredSource } from "./desired-source.ts";

const room = parseRoomId("!config");
const operator = "@operator:bureau.test";
const key = "bureau/fleet/test/machine/box:bureau.test";

/** A machine whose room is known from the start, with or without a configuration. */
function machine(config?: Record<string, unknown>) {
  const states = new RoomStateStore();
  const eventMessages: EventMessage[] = [];
  let events = 0;
  const put = (type: string, stateKey: string, content: Record<string, unknown>): void => {
    const event = { type, stateKey, content, sender: operator, sentAt: 0, eventId: `$${events++}` };
    const update = { state: [event], timeline: [], limited: false };
    states.apply({ nextBatch: "1", joined: new Map([[room, update]]), invited: new Map(), left: [] });
  };
  put("m.room.create", "", {});
  put(eventTypes.powerLevels, "", { users: { [operator]: 100 } });
  const configure = (content: Record<string, unknown>): void => put(eventTypes.machineConfig, key, content);
  if (config !== undefined) configure(config);
  const place = {
    machine: parseMachine("bureau/fleet/test/machine/box"),
    server: parseServerName("bureau.test"),
  };
  const source = new DesiredSource({
    onAuthorization: () => {},
    members: noMembers,
    ...place,
    resolver: new DesiredResolver({ ...place, localpartBytesMax: 84 }),
    states,
    log: silentLog,
    notify: (one) => void eventMessages.push(one),
    scope: { want: () => {} },
    directory: { revision: 0, lookup: () => ({ kind: "pending" }), want: () => {} },
  });
  source.setConfigRoom(room);
  return { source, eventMessages, configure };
}

const unreadable = { principals: "all of them" };

test("an unreadable first configuration gives no desired state, and is reported once", async () => {
  const { source, eventMessages, configure } = machine(unreadable);
  expect(source.current()).toBeUndefined();
  expect(await source.foundUnconfigured).toContain("machine_config");
  source.current();
  expect(eventMessages).toHaveLength(1);
  configure({ principals: [] });
  expect(source.current()?.principals.size).toBe(0);
});

test("a machine without a configuration is new, and not at fault", async () => {
  const { source, eventMessages } = machine();
  expect(source.current()).toBeUndefined();
  expect(await source.foundUnconfigured).toBe("there is none yet");
  expect(eventMessages).toEqual([]);
});

test("a configuration that becomes unreadable leaves the last good one in effect", () => {
  const { source, eventMessages, configure } = machine({ principals: [] });
  const good = source.current();
  configure(unreadable);
  expect(source.current()?.principals).toEqual(good?.principals ?? new Map());
  expect(eventMessages).toHaveLength(1);
});
