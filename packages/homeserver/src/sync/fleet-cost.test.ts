/** What machines cost the server, in counts: clients woken, SQL statements, rows read, answers computed. */
import { Statement } from "bun:sqlite";
import { expect, spyOn, test } from "bun:test";
import {
  at,
  encode,
  eventsAt,
  makeRoom,
  type Person,
  person,
} from "../../../../test/contract/matrix-caller.ts";
import { Sessions } from "../auth/sessions.ts";
import { useTestServer } from "../testing/use-test-server.ts";
import { compileSyncFilter } from "./event-filter.ts";
import { SyncService } from "./sync-service.ts";

const used = useTestServer();

/** A daemon's filter; each daemon has another one, in a part that matches no event. */
const machineFilter = (): object => ({
  presence: { types: [], not_types: [crypto.randomUUID()] },
  account_data: { types: [] },
  room: {
    ephemeral: { types: [] },
    account_data: { types: [] },
    state: { types: ["m.bureau.machine_config", "m.room.power_levels"] },
    timeline: { types: ["m.bureau.machine_config", "m.room.power_levels", "m.room.member"], limit: 50 },
  },
});
const sync = ({ api }: Person, query: Record<string, string>): Promise<Record<string, unknown>> =>
  api.ok("GET", `/sync?${new URLSearchParams({ filter: JSON.stringify(machineFilter()), ...query })}`);

/** A room in which every machine may write its state, and its machines. */
async function makeFleet(count: number): Promise<{ room: string; machines: Person[] }> {
  const machines = await Promise.all(
    Array.from({ length: count }, () => person(used.server(), "bureau/fleet/f/machine/m")),
  );
  const levels = { power_level_content_override: { users_default: 100 }, preset: "public_chat" };
  const room = await makeRoom(machines[0] as Person, levels);
  for (const { api } of machines) await api.ok("POST", `/rooms/${encode(room)}/join`);
  return { room, machines };
}

let beats = 0;
const beat = ({ api, userId }: Person, room: string): Promise<unknown> =>
  api.ok("PUT", `/rooms/${encode(room)}/state/m.bureau.machine_status/${encode(userId.slice(1))}`, {
    n: beats++,
  });

/** Statements that ran during an act, and the rows that they returned. */
async function countSql(act: () => Promise<unknown>): Promise<{ statements: number; rows: number }> {
  const [all, get, run] = [
    spyOn(Statement.prototype, "all"),
    spyOn(Statement.prototype, "get"),
    spyOn(Statement.prototype, "run"),
  ];
  try {
    await act();
    const read = all.mock.results.reduce((sum, { value }) => sum + (value as unknown[]).length, 0);
    return {
      statements: all.mock.calls.length + get.mock.calls.length + run.mock.calls.length,
      rows: read + get.mock.calls.length,
    };
  } finally {
    for (const spy of [all, get, run]) spy.mockRestore();
  }
}

/** Machines with a long poll each. Resolves when the server has them all. */
async function waitAll(machines: readonly Person[]): Promise<Promise<Record<string, unknown>>[]> {
  const polls: Promise<Record<string, unknown>>[] = [];
  for (const machine of machines) {
    const since = String((await sync(machine, {}))["next_batch"]);
    polls.push(sync(machine, { since, timeout: "60000" }));
    await sync(machine, { since });
  }
  return polls;
}

test("a heartbeat wakes no machine, and runs the same statements however many wait", async () => {
  const wakes = spyOn(Sessions.prototype, "requireLive");
  const costs: number[] = [];
  for (const count of [2, 8]) {
    const { room, machines } = await makeFleet(count);
    const [first] = machines as [Person];
    await beat(first, room);
    const polls = await waitAll(machines);
    wakes.mockClear();
    costs.push((await countSql(() => beat(first, room))).statements);
    expect(wakes).toHaveBeenCalledTimes(0);
    const path = `/rooms/${encode(room)}/state/m.bureau.machine_config/`;
    await first.api.ok("PUT", path, { n: 1 });
    for (const body of await Promise.all(polls)) {
      const [event] = eventsAt(at(body, "rooms", "join", room), "timeline", "events");
      expect(event?.type).toBe("m.bureau.machine_config");
    }
    expect(wakes).toHaveBeenCalledTimes(count);
  }
  wakes.mockRestore();
  expect(costs[1]).toBe(costs[0] as number);
  // Two for the event and its place in the state.
  expect(costs[0]).toBeLessThanOrEqual(3);
});

test("a machine that was away reads what changed, not all heartbeats since then", async () => {
  const { room, machines } = await makeFleet(2);
  const [first, away] = machines as [Person, Person];
  const since = String((await sync(away, {}))["next_batch"]);
  await first.api.ok("PUT", `/rooms/${encode(room)}/state/m.bureau.machine_config/`, { n: 2 });
  for (let count = 0; count < 300; count++) await beat(first, room);
  const { rows, statements } = await countSql(() => sync(away, { since }));
  expect(rows).toBeLessThan(15);
  expect(statements).toBeLessThan(15);
});

test("computes no answer for a client that disconnected while it waited for its turn", async () => {
  const { machines } = await makeFleet(1);
  const services: SyncService[] = [];
  const answer = SyncService.prototype.sync;
  const spy = spyOn(SyncService.prototype, "sync").mockImplementation(function (this: SyncService, request) {
    services.push(this);
    return answer.call(this, request);
  });
  await sync(machines[0] as Person, {});
  spy.mockRestore();
  const { userId, deviceId } = machines[0] as Person;
  const [service] = services as [SyncService];
  const gone = new AbortController();
  const left = { signal: gone.signal, since: undefined, timeoutMs: 0, fullState: false };
  const session = { userId, deviceId, isAdmin: false, tokenHash: "" };
  const filter = compileSyncFilter(machineFilter() as Parameters<typeof compileSyncFilter>[0]);
  const { statements } = await countSql(async () => {
    const asked = Array.from({ length: 20 }, () => service.sync({ ...left, session, filter }));
    gone.abort();
    const ended = await Promise.allSettled(asked);
    expect(new Set(ended.map(({ status }) => status))).toEqual(new Set(["rejected"]));
  });
  expect(statements).toBe(0);
});

test("a server that stops ends long polls without a statement, at the position that the clients have", async () => {
  const { machines } = await makeFleet(4);
  const polls = await waitAll(machines);
  const { statements } = await countSql(() => used.server().stop());
  expect(statements).toBe(0);
  for (const body of await Promise.all(polls)) expect(at(body, "rooms", "join")).toEqual({});
  await used.start();
});
