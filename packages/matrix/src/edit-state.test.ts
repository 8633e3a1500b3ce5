import { expect, test } from "bun:test";
import { parseEventId, parseRoomId } from "@bureau/schema/refs";
import {
  applyFields,
  type EditingSession,
  editState,
  fieldDifference,
  type StateContent,
} from "./edit-state.ts";

const room = parseRoomId("!r");
const at = { room, type: "m.test", key: "k" };
const editing = { apply: applyFields, difference: fieldDifference };
const set = (field: string, value: unknown) => new Map([[field, value]]);

type Stored = {
  id: string;
  key: string;
  content: StateContent;
  sentAt: number;
  replaces: string | undefined;
};

/** A room in memory with one type of events. `beforePut` is what another user writes just before our event. */
class Room {
  readonly timeline: Stored[] = [];
  readonly limits: number[] = [];
  reads = 0;
  now = 0;
  beforePut: (() => void) | undefined;
  /** The event that the next put replaces, instead of the current one: as a homeserver that accepts two at once. */
  replacesNext: string | undefined;

  write(key: string, content: StateContent, replaces = this.#current(key)?.id): string {
    const id = `$${this.timeline.length}`;
    this.timeline.push({ id, key, content, sentAt: this.now, replaces });
    return id;
  }

  #current = (key: string): Stored | undefined => this.timeline.findLast((event) => event.key === key);

  readonly session: EditingSession = {
    counts: async () => true,
    putState: async (_room, _type, key, content) => {
      this.beforePut?.();
      this.beforePut = undefined;
      const replaces = this.replacesNext;
      this.replacesNext = undefined;
      return parseEventId(this.write(key, content as StateContent, replaces));
    },
    stateEvent: async (_room, type, key) => {
      const event = this.#current(key);
      return (
        event && { type, stateKey: key, sender: "@a:b", content: event.content, sentAt: 0, eventId: event.id }
      );
    },
    getEvent: async (_room, id) => {
      this.reads++;
      const event = this.timeline.find((one) => one.id === id);
      return event && { ...event, sender: "@a:b" };
    },
    messages: async (_room, { from, limit = 0 } = {}) => {
      this.limits.push(limit);
      const start = Number(from ?? 0);
      const newest = this.timeline.toReversed().slice(start, start + limit);
      const chunk = newest.map(({ id, key, content, sentAt, replaces }) => ({
        event_id: id,
        type: "m.test",
        state_key: key,
        content,
        origin_server_ts: sentAt,
        unsigned: { replaces_state: replaces },
      }));
      return { chunk, end: String(start + limit) };
    },
  };
}

test("an edit looks back at a few events, however many there were", async () => {
  const world = new Room();
  for (let index = 0; index < 500; index++) world.write("k", { index });
  const { written } = await editState(world.session, at, set("a", 1), editing);
  expect([written, world.limits, world.reads]).toEqual([true, [4], 0]);
});

test("does not look back beyond the time in which two writes can be beside each other", async () => {
  const world = new Room();
  world.write("k", {});
  for (let index = 0; index < 500; index++) world.write("other", { index });
  world.now = 3_600_000;
  await editState(world.session, at, set("a", 1), editing);
  expect(world.limits).toEqual([4]);
});

test("keeps what another user wrote between reading and writing", async () => {
  const world = new Room();
  world.write("k", { old: 1 });
  world.beforePut = () => void world.write("k", { old: 1, theirs: 1 });
  const { content } = await editState(world.session, at, set("ours", 1), editing);
  expect(content).toEqual({ old: 1, theirs: 1, ours: 1 });
});

test("keeps what another user wrote beside it, onto the same event, among other keys' events", async () => {
  const world = new Room();
  const read = world.write("k", { old: 1 });
  world.beforePut = () => {
    world.write("k", { old: 1, theirs: 1 }, read);
    for (let index = 0; index < 10; index++) world.write("other", { index });
  };
  world.replacesNext = read;
  const { content } = await editState(world.session, at, set("ours", 1), editing);
  expect(content).toEqual({ old: 1, theirs: 1, ours: 1 });
  expect(world.limits.slice(0, 2)).toEqual([4, 16]);
});
