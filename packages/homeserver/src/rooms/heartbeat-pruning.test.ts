/** Replaced heartbeats go; everything that a client reads afterwards is as before. */
import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, systemClock } from "@bureau/kit/clock";
import {
  at,
  Caller,
  encode,
  eventsAt,
  makeRoom,
  type Person,
  person,
} from "../../../../test/contract/matrix-caller.ts";
import { openDatabase } from "../store/database.ts";
import { createEventStore } from "../store/event-store.ts";
import { startTestServer } from "../testing/test-server.ts";
import { pruneHeartbeats } from "./heartbeat-pruning.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});
const makeFolder = (): string => {
  const folder = mkdtempSync(join(tmpdir(), "bhs-prune-"));
  folders.push(folder);
  return folder;
};

const never = new AbortController().signal;
const HOUR_MS = 3_600_000;
const hoursAgo = (hours: number): Clock => ({
  ...systemClock,
  now: () => Date.now() - hours * HOUR_MS,
});

async function serve<T>(dataDir: string, clock: Clock, act: (url: string) => Promise<T>): Promise<T> {
  const server = await startTestServer(dataDir, clock);
  try {
    return await act(server.url);
  } finally {
    await server.stop();
  }
}

async function prune(folder: string): Promise<number> {
  const db = openDatabase(folder);
  const instant: Clock = { ...systemClock, sleep: async () => {} };
  try {
    return await pruneHeartbeats({ db, events: createEventStore(db), clock: instant }, never);
  } finally {
    db.close();
  }
}

const newPerson = (url: string): Promise<Person> =>
  person({ url, serverName: "bureau.local", registrationToken: "tok", stop: async () => {} });
/** The same account after the homeserver started again, at another port. */
const atUrl = (who: Person, url: string): Person => ({ ...who, api: new Caller(url, who.token) });
const beat = async ({ api }: Person, room: string, count: number, key = "m"): Promise<string[]> => {
  const ids: string[] = [];
  for (let n = 0; n < count; n++) {
    const path = `/rooms/${encode(room)}/state/m.bureau.machine_status/${key}`;
    ids.push(String((await api.ok("PUT", path, { n: `${key}${n}` }))["event_id"]));
  }
  return ids;
};

test("deletes heartbeats replaced an hour ago, and keeps the current ones, newer ones and all other events", async () => {
  const folder = makeFolder();
  const { who, room, old } = await serve(folder, hoursAgo(2), async (url) => {
    const who = await newPerson(url);
    const room = await makeRoom(who);
    const old = await beat(who, room, 5);
    await beat(who, room, 3, "silent");
    await who.api.ok("PUT", `/rooms/${encode(room)}/state/m.other/`, { n: 1 });
    await who.api.ok("PUT", `/rooms/${encode(room)}/state/m.other/`, { n: 2 });
    return { who, room, old };
  });
  const recent = await serve(folder, hoursAgo(0), (url) => beat(atUrl(who, url), room, 3));
  // Five of the machine that still reports; two of the silent one, whose last one stays.
  expect(await prune(folder)).toBe(7);
  expect(await prune(folder)).toBe(0);
  await serve(folder, systemClock, async (url) => {
    const { api } = atUrl(who, url);
    const chunk = eventsAt(await api.ok("GET", `/rooms/${encode(room)}/messages?dir=f&limit=100`), "chunk");
    const shown = chunk.map(({ content }) => content["n"]).filter((n) => n !== undefined);
    expect(shown).toEqual(["silent2", 1, 2, "m0", "m1", "m2"]);
    expect(chunk.find(({ event_id }) => event_id === recent[0])?.unsigned?.["prev_content"]).toBeUndefined();
    expect(chunk.find(({ event_id }) => event_id === recent[1])?.unsigned?.["prev_content"]).toEqual({
      n: "m0",
    });
    expect((await api.get(`/rooms/${encode(room)}/event/${encode(old[0] as string)}`)).status).toBe(404);
    const state = await api.ok("GET", `/rooms/${encode(room)}/state/m.bureau.machine_status/m`);
    expect(state).toEqual({ n: "m2" });
  });
});

test("a page and a sync that start at a deleted event continue behind it", async () => {
  const folder = makeFolder();
  const filter = encode(JSON.stringify({ room: { timeline: { limit: 2 } } }));
  const before = await serve(folder, hoursAgo(2), async (url) => {
    const who = await newPerson(url);
    const room = await makeRoom(who);
    await who.api.ok("PUT", `/rooms/${encode(room)}/send/m.a/1`, { n: "first" });
    await beat(who, room, 4);
    const { next_batch: since } = await who.api.ok("GET", `/sync?filter=${filter}`);
    const page = await who.api.ok("GET", `/rooms/${encode(room)}/messages?dir=b&limit=2`);
    await beat(who, room, 4);
    await who.api.ok("PUT", `/rooms/${encode(room)}/send/m.a/2`, { n: "last" });
    return { who, room, since, end: page["end"] };
  });
  const { who, room, since, end } = before;
  expect(await prune(folder)).toBe(7);
  await serve(folder, systemClock, async (url) => {
    const { api } = atUrl(who, url);
    const older = await api.ok("GET", `/rooms/${encode(room)}/messages?dir=b&limit=1&from=${end}`);
    expect(eventsAt(older, "chunk").map(({ content }) => content["n"])).toEqual(["first"]);
    const synced = await api.ok("GET", `/sync?since=${since}&filter=${filter}`);
    const joined = at(synced, "rooms", "join", room);
    expect(eventsAt(joined, "timeline", "events").map(({ content }) => content["n"])).toEqual(["m3", "last"]);
  });
});

test("the file gives back what pruning frees, also a file of an earlier version from its next start on", async () => {
  const folder = makeFolder();
  const path = join(folder, "homeserver.db");
  const { who, room } = await serve(folder, hoursAgo(2), async (url) => {
    const who = await newPerson(url);
    return { who, room: await makeRoom(who) };
  });
  const grow = (): void => {
    const db = openDatabase(folder);
    const events = createEventStore(db);
    db.transaction(() => {
      for (let n = 0; n < 12_000; n++) insertBeat(events, db.advance(), room, n);
    });
    db.close();
  };
  grow();
  const full = statSync(path).size;
  expect(await prune(folder)).toBeGreaterThan(11_000);
  expect(statSync(path).size).toBeLessThan(full / 2);

  // As an earlier version made it.
  const sqlite = new Database(path, { strict: true });
  sqlite.run("PRAGMA auto_vacuum = NONE");
  sqlite.run("VACUUM");
  sqlite.close();
  grow();
  await prune(folder);
  expect(statSync(path).size).toBeGreaterThan(full / 2);
  openDatabase(folder).close();
  expect(statSync(path).size).toBeLessThan(full / 10);
  await serve(folder, systemClock, async (url) => {
    const state = await atUrl(who, url).api.ok(
      "GET",
      `/rooms/${encode(room)}/state/m.bureau.machine_status/m`,
    );
    expect(state["n"]).toBe(11_999);
  });
});

function insertBeat(events: ReturnType<typeof createEventStore>, stream: number, roomId: string, n: number) {
  const content = { n, filler: "x".repeat(800) };
  const event = {
    stream,
    eventId: `$beat${stream}`,
    roomId,
    type: "m.bureau.machine_status",
    stateKey: "m",
    sender: "@m:bureau.local",
    content,
    originServerTs: Date.now() - 2 * HOUR_MS,
    replaces: null,
    redacts: null,
    redactedBy: null,
    txnDevice: null,
    txnId: null,
  };
  events.insert(event, JSON.stringify(content), undefined);
}
