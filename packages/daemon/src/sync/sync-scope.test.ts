import { expect, test } from "bun:test";
import { SyncScope } from "./sync-scope.ts";

const typesOf = (filter: unknown): string[] =>
  (filter as { room: { state: { types: string[] } } }).room.state.types;

test("requests event types that the daemon obeys, and no others that members may write", () => {
  const { filter, keeps } = new SyncScope().open();
  expect(typesOf(filter)).toContain("m.bureau.machine_config");
  for (const type of ["m.bureau.machine_status", "m.room.member", "m.bureau.layout", "m.room.message"]) {
    expect(typesOf(filter)).not.toContain(type);
    expect(keeps(type, "")).toBe(false);
  }
});

test("grows by each event that a condition names, once a name", () => {
  const scope = new SyncScope();
  const before = scope.open();
  scope.want([{ type: "m.bureau.template", stateKey: "x" }]);
  expect(before.grown.aborted).toBe(false);
  scope.want([{ type: "m.build", stateKey: "green" }]);
  expect(before.grown.aborted).toBe(true);
  expect(before.keeps("m.build", "green")).toBe(false);
  const after = scope.open();
  expect(typesOf(after.filter)).toContain("m.build");
  expect([after.keeps("m.build", "green"), after.keeps("m.build", "other")]).toEqual([true, false]);
  scope.want([{ type: "m.build", stateKey: "green" }]);
  expect(after.grown.aborted).toBe(false);
});

test("detects that this machine was removed from a room: a response without the event may lack the room", () => {
  const { room } = new SyncScope().open().filter as { room: { timeline: { types: string[] } } };
  expect(room.timeline.types).toContain("m.room.member");
});

test("two filters are never equal", () => {
  const scope = new SyncScope();
  expect(scope.open().filter).not.toEqual(scope.open().filter);
});

test("the first request asks for the state and no history, and each following one for all events of its interval", () => {
  const limitOf = (filter: unknown): number =>
    (filter as { room: { timeline: { limit: number } } }).room.timeline.limit;
  const { filter, initialFilter } = new SyncScope().open();
  expect([limitOf(initialFilter), limitOf(filter)]).toEqual([1, 50]);
  expect(typesOf(initialFilter)).toEqual(typesOf(filter));
  expect(initialFilter).not.toEqual(filter);
});
