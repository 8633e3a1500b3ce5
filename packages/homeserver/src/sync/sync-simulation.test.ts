/**
 * The guarantee of /sync, simulated: for any acts of users and any sync interval and filter, a client that
 * applies `state` and then `timeline` of every answer ends with the rooms' true state, and misses or repeats no
 * event that it was not told is limited. Random, seeded; a failure prints its seed.
 */
import { expect, test } from "bun:test";
import {
  at,
  type EventJson,
  encode,
  eventsAt,
  makeRoom,
  type Person,
  person,
} from "../../../../test/contract/matrix-caller.ts";
import { randomOf } from "../testing/random-of.ts";
import { useTestServer } from "../testing/use-test-server.ts";

const { server } = useTestServer();

type RoomModel = { state: Map<string, EventJson>; timeline: string[]; gap: boolean };

/** A client that believes what /sync says and nothing else. */
class Client {
  readonly rooms = new Map<string, RoomModel>();
  since: string | undefined;
  constructor(readonly who: Person) {}

  async sync(limit: number): Promise<void> {
    const filter = JSON.stringify({ room: { timeline: { limit } } });
    const query = new URLSearchParams({ filter, ...(this.since === undefined ? {} : { since: this.since }) });
    const body = await this.who.api.ok("GET", `/sync?${query}`);
    for (const [roomId, room] of Object.entries((at(body, "rooms", "join") ?? {}) as object))
      this.#join(roomId, room);
    // A user who left and was invited again gets the invitation only.
    for (const now of ["leave", "invite"])
      for (const roomId of Object.keys((at(body, "rooms", now) ?? {}) as object)) this.rooms.delete(roomId);
    this.since = String(body["next_batch"]);
  }

  #join(roomId: string, room: unknown): void {
    const model: RoomModel = this.rooms.get(roomId) ?? { state: new Map(), timeline: [], gap: false };
    this.rooms.set(roomId, model);
    const timeline = eventsAt(room, "timeline", "events");
    if (at(room, "timeline", "limited") === true) model.gap = true;
    for (const event of [...eventsAt(room, "state", "events"), ...timeline]) {
      if (event.state_key !== undefined) model.state.set(`${event.type} ${event.state_key}`, event);
    }
    model.timeline.push(...timeline.map((event) => event.event_id));
  }
}

async function act(
  random: (below: number) => number,
  people: Person[],
  rooms: string[],
  serial: number,
): Promise<void> {
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;
  const [who, target, room] = [pick(people), pick(people), `/rooms/${encode(pick(rooms))}`];
  switch (random(8)) {
    case 0:
      return void (await who.api.post(`${room}/join`));
    case 1:
      return void (random(3) === 0 && (await who.api.post(`${room}/leave`)));
    case 2:
      return void (random(3) === 0 && (await who.api.post(`${room}/kick`, { user_id: target.userId })));
    case 3:
      return void (await who.api.post(`${room}/invite`, { user_id: target.userId }));
    case 4:
      return void (await who.api.put(`${room}/send/m.room.message/s${serial}`, { n: serial }));
    case 5:
      return void (
        random(4) === 0 &&
        (await who.api.put(`/profile/${encode(who.userId)}/displayname`, { displayname: `n${serial}` }))
      );
    default:
      return void (await who.api.put(`${room}/state/m.test/${random(4)}`, { n: random(6) }));
  }
}

async function simulate(seed: number): Promise<void> {
  const random = randomOf(seed);
  const people = await Promise.all(["a", "b", "c"].map((name) => person(server(), name)));
  const [owner] = people as [Person, ...Person[]];
  const levels = { power_level_content_override: { state_default: 0, events: {} } };
  const rooms = [await makeRoom(owner, { preset: "public_chat", ...levels }), await makeRoom(owner, levels)];
  const clients = people.map((who) => new Client(who));
  for (let step = 0; step < 200; step++) {
    await act(random, people, rooms, step);
    if (random(8) === 0) await clients[random(clients.length)]?.sync(1 + random(3));
  }
  for (const client of clients) {
    await client.sync(1 + random(2));
    const { joined_rooms: joined } = await client.who.api.ok("GET", "/joined_rooms");
    expect([...client.rooms.keys()].sort()).toEqual([...(joined as string[])].sort());
    for (const [roomId, model] of client.rooms) await compare(client, roomId, model);
  }
}

async function compare(client: Client, roomId: string, model: RoomModel): Promise<void> {
  const truth = (await client.who.api.ok("GET", `/rooms/${encode(roomId)}/state`)) as unknown as EventJson[];
  const told = Object.fromEntries([...model.state].map(([key, event]) => [key, event.event_id]));
  expect(told).toEqual(
    Object.fromEntries(truth.map((event) => [`${event.type} ${event.state_key}`, event.event_id])),
  );
  if (model.gap) return;
  const history = await client.who.api.ok("GET", `/rooms/${encode(roomId)}/messages?dir=b&limit=1000`);
  const all = eventsAt(history, "chunk")
    .map((event) => event.event_id)
    .reverse();
  expect(model.timeline).toEqual(all.slice(all.length - model.timeline.length));
}

const seeds =
  process.env["BUREAU_SEED"] === undefined
    ? [1, 2, 3, Date.now() % 1_000_000]
    : [Number(process.env["BUREAU_SEED"])];
for (const seed of seeds) {
  test(`clients end with the true state of their rooms (seed ${seed})`, async () => {
    await simulate(seed);
  }, 30_000);
}
