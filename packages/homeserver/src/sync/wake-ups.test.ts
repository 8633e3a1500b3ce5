/**
 * The guarantee of the notifier, simulated: a long poll with any filter ends exactly when an answer that is computed at once,
 * from the same position and with the same filter, has news; and it brings that news. Random, seeded; a failure prints its
 * seed.
 */
import { expect, test } from "bun:test";
import {
  at,
  Caller,
  encode,
  eventsAt,
  makeRoom,
  type Person,
  person,
} from "../../../../test/contract/matrix-caller.ts";
import { randomOf } from "../testing/random-of.ts";
import { useTestServer } from "../testing/use-test-server.ts";

const { server } = useTestServer();

type Random = (below: number) => number;
type Body = Record<string, unknown>;

/** Everything in an answer that is news, one text each. */
function newsOf(body: Body): Set<string> {
  const news = new Set<string>();
  for (const kind of ["join", "leave", "invite", "knock"])
    for (const [roomId, room] of Object.entries((at(body, "rooms", kind) ?? {}) as object)) {
      news.add(`${kind} ${roomId}`);
      for (const part of ["state", "timeline"])
        for (const event of eventsAt(room, part, "events")) news.add(`event ${event.event_id}`);
      for (const part of ["ephemeral", "account_data"])
        for (const event of eventsAt(room, part, "events"))
          news.add(`${part} ${roomId} ${JSON.stringify([event.type, event.content])}`);
    }
  for (const part of ["to_device", "account_data"])
    for (const event of eventsAt(body, part, "events"))
      news.add(`${part} ${JSON.stringify([event.type, event.content])}`);
  for (const event of eventsAt(body, "presence", "events")) news.add(`presence of ${event.sender}`);
  for (const user of (at(body, "device_lists", "changed") ?? []) as string[]) news.add(`devices of ${user}`);
  return news;
}

/** One client that always has a long poll open. */
class Follower {
  #since = "";
  #poll: Promise<Body> = Promise.resolve({});
  #isAnswered = false;
  readonly #filter: string;

  constructor(
    readonly who: Person,
    filter: object,
  ) {
    this.#filter = JSON.stringify(filter);
  }

  #sync(timeoutMs: number): Promise<Body> {
    const since = this.#since === "" ? {} : { since: this.#since };
    const query = new URLSearchParams({ filter: this.#filter, timeout: String(timeoutMs), ...since });
    return this.who.api.ok("GET", `/sync?${query}`);
  }

  #open(): void {
    this.#isAnswered = false;
    this.#poll = this.#sync(60_000).finally(() => {
      this.#isAnswered = true;
    });
  }

  async start(): Promise<void> {
    this.#since = String((await this.#sync(0))["next_batch"]);
    this.#open();
    // The server has this long poll once it answered a later request of the same connection pool.
    await this.#sync(0);
  }

  /** Compares the long poll with an answer computed now. An act of several transactions may need several polls. */
  async check(): Promise<void> {
    const wanted = newsOf(await this.#sync(0));
    const got = new Set<string>();
    for (let current = wanted; current.size > 0; current = newsOf(await this.#sync(0))) {
      const body = await this.#poll;
      for (const one of newsOf(body)) got.add(one);
      this.#since = String(body["next_batch"]);
      this.#open();
    }
    expect({ filter: this.#filter, missed: [...wanted].filter((one) => !got.has(one)) }).toEqual({
      filter: this.#filter,
      missed: [],
    });
    expect(this.#isAnswered).toBe(false);
  }
}

const types = ["m.a", "m.b", "m.test", "m.room.member", "m.room.redaction", "m.typing", "m.receipt"];

function randomFilter(random: Random, rooms: readonly string[], people: readonly Person[]): object {
  const some = <T>(list: readonly T[]): T[] => list.filter(() => random(2) === 0);
  const maybe = (key: string, value: unknown): object => (random(2) === 0 ? { [key]: value } : {});
  const part = (): object => ({
    ...maybe("types", some(types)),
    ...maybe("not_types", some(types)),
    ...maybe("senders", some(people.map(({ userId }) => userId))),
    ...maybe("rooms", some(rooms)),
    ...maybe("limit", random(3)),
    ...maybe("lazy_load_members", true),
  });
  return {
    ...maybe("presence", { types: [] }),
    ...maybe("account_data", { types: [] }),
    room: {
      ...maybe("state", part()),
      ...maybe("timeline", part()),
      ...maybe("ephemeral", part()),
      ...maybe("account_data", part()),
      ...maybe("not_rooms", some(rooms)),
    },
  };
}

type World = {
  readonly random: Random;
  readonly people: readonly Person[];
  /** The people never leave the first room, so that they see each other's presence. */
  readonly rooms: readonly string[];
  readonly sent: string[];
};

async function act(world: World, serial: number): Promise<void> {
  const { random, people, rooms, sent } = world;
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;
  const [who, target] = [pick(people), pick(people)];
  const room = `/rooms/${encode(pick(rooms))}`;
  const other = `/rooms/${encode(pick(rooms.slice(1)))}`;
  const { api, userId } = who;
  const redact = () => api.put(`${room}/redact/${encode(pick(sent.slice(-6)) ?? "$none")}/r${serial}`);
  const setState = () => api.put(`${room}/state/m.test/${random(3)}`, { n: serial });
  const acts: (() => Promise<unknown>)[] = [
    redact,
    redact,
    redact,
    setState,
    setState,
    setState,
    () => api.post(`${other}/join`),
    () => api.post(`${other}/leave`),
    () => api.post(`${other}/kick`, { user_id: target.userId }),
    () => api.post(`${other}/invite`, { user_id: target.userId }),
    () => api.put(`${room}/typing/${encode(userId)}`, { typing: random(2) === 0, timeout: 60_000 }),
    () => api.post(`${room}/receipt/m.read/${encode(pick(sent) ?? "$none")}`),
    () => api.put(`/user/${encode(userId)}/account_data/m.a`, { n: serial }),
    () => api.put(`/user/${encode(userId)}${room}/account_data/m.b`, { n: serial }),
    () => api.put(`/sendToDevice/m.a/t${serial}`, { messages: { [target.userId]: { "*": { n: serial } } } }),
    () => uploadKeys(who, serial),
    () => api.put(`/presence/${encode(userId)}/status`, { presence: pick(["online", "offline"]) }),
    () => api.put(`/profile/${encode(userId)}/displayname`, { displayname: `n${serial}` }),
    () =>
      api.put(`${other}/state/m.room.history_visibility/`, {
        history_visibility: pick(["shared", "joined", "invited", "world_readable"]),
      }),
  ];
  const message = () => api.put(`${room}/send/${pick(["m.a", "m.b"])}/s${serial}`, { n: serial });
  const done = (await (random(4) === 0 ? message() : pick(acts)())) as { body?: Body } | undefined;
  const eventId = done?.body?.["event_id"];
  if (typeof eventId === "string") sent.push(eventId);
}

/** The stranger changes keys too, unseen until it shares a room. */
const uploadKeys = ({ api, userId, deviceId }: Person, serial: number): Promise<unknown> =>
  api.post("/keys/upload", {
    device_keys: { user_id: userId, device_id: deviceId, algorithms: [], keys: { k: String(serial) } },
  });

/** The names of machines, to which the server gives the most requests. */
const MACHINES = "bureau/fleet/f/machine";

/** Filters that follow the rooms for each person. */
const FOLLOWERS_EACH = 5;

/** Messages to a device are gone once that device has them, so each follower needs one of its own. */
async function onNewDevice({ userId, password }: Person): Promise<Person> {
  const body = { type: "m.login.password", identifier: { type: "m.id.user", user: userId }, password };
  const answer = await new Caller(server().url).ok("POST", "/login", body);
  const token = String(answer["access_token"]);
  return {
    userId,
    password,
    token,
    deviceId: String(answer["device_id"]),
    api: new Caller(server().url, token),
  };
}

async function simulate(seed: number): Promise<void> {
  const random = randomOf(seed);
  const people = await Promise.all(["a", "b", "c"].map((name) => person(server(), `${MACHINES}/${name}`)));
  const stranger = await person(server(), "d");
  const [owner] = people as [Person, ...Person[]];
  const levels = { power_level_content_override: { users_default: 100 }, preset: "public_chat" };
  const rooms = await Promise.all([1, 2, 3].map(() => makeRoom(owner, levels)));
  for (const { api } of people) await api.post(`/rooms/${encode(rooms[0] as string)}/join`);
  const world = { random, people, rooms, sent: [] };
  const followers: Follower[] = [];
  for (const who of people)
    for (let count = 0; count < FOLLOWERS_EACH; count++)
      followers.push(new Follower(await onNewDevice(who), randomFilter(random, rooms, people)));
  await Promise.all(followers.map((one) => one.start()));
  for (let serial = 0; serial < 120; serial++) {
    if (random(8) === 0) await uploadKeys(stranger, serial);
    else if (random(6) === 0)
      await stranger.api.post(`/rooms/${encode(rooms[1] as string)}/${random(2) === 0 ? "join" : "leave"}`);
    else await act(world, serial);
    await Promise.all(followers.map((one) => one.check()));
  }
}

const seeds =
  process.env["BUREAU_SEED"] === undefined
    ? [1, 2, 3, Date.now() % 1_000_000]
    : [Number(process.env["BUREAU_SEED"])];
for (const seed of seeds) {
  test(`a long poll brings what an answer computed at once has (seed ${seed})`, async () => {
    await simulate(seed);
  }, 60_000);
}
