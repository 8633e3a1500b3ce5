/** What is ours beyond the contract: limits, wake-ups, admin acts, error sentences, denial of guessing. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { Secret } from "@bureau/kit/secret";
import { silentLog } from "@bureau/os/testing/silent-log";
import {
  at,
  Caller,
  encode,
  eventsAt,
  freshName,
  makeRoom,
  type Person,
  person,
  type Server,
} from "../../../test/contract/matrix-caller.ts";
import { type Homeserver, startHomeserver } from "./homeserver.ts";
import { openDatabase } from "./store/database.ts";
import { createEventStore } from "./store/event-store.ts";

const folder = mkdtempSync(join(tmpdir(), "bhs-"));
let homeserver: Homeserver;
let server: Server;
let admin: Person;

beforeAll(async () => {
  const config = {
    dataDir: folder,
    serverName: "bureau.local",
    listen: [{ kind: "tcp", hostname: "127.0.0.1", port: 0 }],
    registrationToken: new Secret("tok"),
  } as const;
  homeserver = await startHomeserver(config, { log: silentLog, clock: systemClock });
  server = {
    url: homeserver.url,
    serverName: "bureau.local",
    registrationToken: "tok",
    stop: async () => {},
  };
  admin = await person(server, "admin");
});
afterAll(async () => {
  await homeserver[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const syncOnce = (who: Person, query: Record<string, string> = {}): Promise<Record<string, unknown>> =>
  who.api.ok("GET", `/sync?${new URLSearchParams(query)}`);
const logIn = (who: Person, password: string) =>
  new Caller(server.url).post("/login", {
    type: "m.login.password",
    identifier: { type: "m.id.user", user: who.userId },
    password,
  });

test("a long poll is woken by a state change", async () => {
  const bob = await person(server, "bob");
  const roomId = await makeRoom(admin, { preset: "public_chat" });
  await bob.api.ok("POST", `/rooms/${encode(roomId)}/join`, {});
  let since = String((await syncOnce(bob))["next_batch"]);
  const latencies: number[] = [];
  for (let n = 0; n < 15; n++) {
    const poll = syncOnce(bob, { since, timeout: "20000" }).then((body) => ({ body, at: performance.now() }));
    await bob.api.ok("GET", "/account/whoami");
    const began = performance.now();
    await admin.api.ok("PUT", `/rooms/${encode(roomId)}/state/m.bureau.status/k`, { n });
    const { body, at: woke } = await poll;
    since = String(body["next_batch"]);
    latencies.push(woke - began);
  }
  // One that is not woken looks again only when its time is up; the worst of them shows how busy the machine is.
  expect(Math.min(...latencies)).toBeLessThan(5_000);
});

test("a filtered event does not end a long poll", async () => {
  const bob = await person(server, "bob");
  const roomId = await makeRoom(bob);
  const filter = JSON.stringify({
    room: { timeline: { types: ["m.wanted"] }, state: { types: ["m.wanted"] }, ephemeral: { types: [] } },
    presence: { types: [] },
  });
  const since = String((await syncOnce(bob, { filter }))["next_batch"]);
  const poll = syncOnce(bob, { since, filter, timeout: "20000" });
  for (let n = 0; n < 3; n++) {
    await bob.api.ok("PUT", `/rooms/${encode(roomId)}/state/m.unwanted/k`, { n });
  }
  await bob.api.ok("PUT", `/rooms/${encode(roomId)}/state/m.wanted/k`, { n: 1 });
  const events = eventsAt(await poll, "rooms", "join", roomId, "timeline", "events");
  expect(events.map((event) => event.type)).toEqual(["m.wanted"]);
});

test("state that the timeline filter hides still arrives, in the state section", async () => {
  const bob = await person(server, "bob");
  const roomId = await makeRoom(bob);
  const filter = JSON.stringify({ room: { timeline: { types: ["m.room.message"] } } });
  const since = String((await syncOnce(bob, { filter }))["next_batch"]);
  await bob.api.ok("PUT", `/rooms/${encode(roomId)}/state/m.bureau.thing/k`, { n: 1 });
  await bob.api.ok("PUT", `/rooms/${encode(roomId)}/state/m.bureau.thing/k`, { n: 2 });
  const room = at(await syncOnce(bob, { since, filter }), "rooms", "join", roomId);
  expect(eventsAt(room, "timeline", "events")).toEqual([]);
  expect(eventsAt(room, "state", "events").map((event) => event.content)).toEqual([{ n: 2 }]);
});

test("lazy loading sends only the members that the timeline needs", async () => {
  const [bob, carol] = [await person(server, "bob"), await person(server, "carol")];
  const roomId = await makeRoom(bob, { preset: "public_chat" });
  await carol.api.ok("POST", `/rooms/${encode(roomId)}/join`, {});
  for (let n = 0; n < 3; n++)
    await bob.api.ok("PUT", `/rooms/${encode(roomId)}/send/m.room.message/l${n}`, { n });
  const filter = JSON.stringify({ room: { timeline: { limit: 2 }, state: { lazy_load_members: true } } });
  const room = at(await syncOnce(bob, { filter }), "rooms", "join", roomId);
  const members = eventsAt(room, "state", "events").filter((event) => event.type === "m.room.member");
  expect(members.map((event) => event.state_key)).toEqual([bob.userId]);
  expect(at(room, "summary", "m.joined_member_count")).toBe(2);
  expect(at(room, "summary", "m.heroes")).toEqual([carol.userId]);
});

test("a token that ends during a long poll ends the poll", async () => {
  const bob = await person(server, "bob");
  const since = String((await syncOnce(bob))["next_batch"]);
  const poll = bob.api.get(`/sync?since=${encode(since)}&timeout=20000`);
  await bob.api.ok("GET", "/account/whoami");
  await admin.api.ok("POST", `/_synapse/admin/v1/deactivate/${encode(bob.userId)}`, {});
  const answer = await poll;
  expect([answer.status, answer.body["errcode"]]).toEqual([401, "M_UNKNOWN_TOKEN"]);
});

test("the first account is the server's admin; only it deactivates accounts and resets passwords", async () => {
  const [bob, eve] = [await person(server, "bob"), await person(server, "eve")];
  const reset = `/_synapse/admin/v1/reset_password/${encode(bob.userId)}`;
  expect((await eve.api.post(reset, { new_password: "stolen" })).body["errcode"]).toBe("M_FORBIDDEN");
  await admin.api.ok("POST", reset, { new_password: "from the admin" });
  expect((await bob.api.get("/account/whoami")).body["errcode"]).toBe("M_UNKNOWN_TOKEN");
  expect((await logIn(bob, bob.password)).status).toBe(403);
  expect((await logIn(bob, "from the admin")).status).toBe(200);
  const deactivate = `/_synapse/admin/v1/deactivate/${encode(bob.userId)}`;
  expect((await eve.api.post(deactivate)).body["errcode"]).toBe("M_FORBIDDEN");
  await admin.api.ok("PUT", deactivate, {});
  expect((await logIn(bob, "from the admin")).body["errcode"]).toBe("M_USER_DEACTIVATED");
  expect((await admin.api.post("/_synapse/admin/v1/deactivate/%40nobody%3Abureau.local")).status).toBe(404);
});

test("only the admin reactivates an account, with a new password", async () => {
  const bob = await person(server, "bob");
  const user = `/_synapse/admin/v2/users/${encode(bob.userId)}`;
  await admin.api.ok("PUT", user, { deactivated: true });
  expect((await logIn(bob, bob.password)).body["errcode"]).toBe("M_USER_DEACTIVATED");
  expect((await admin.api.put(user, { deactivated: false })).status).toBe(400);
  await admin.api.ok("PUT", user, { deactivated: false, password: "back again" });
  expect((await logIn(bob, bob.password)).status).toBe(403);
  expect((await logIn(bob, "back again")).status).toBe(200);
});

test("deactivation leaves every room in the same transaction", async () => {
  const bob = await person(server, "bob");
  const roomId = await makeRoom(admin, { invite: [bob.userId] });
  await bob.api.ok("POST", `/rooms/${encode(roomId)}/join`, {});
  await admin.api.ok("POST", `/_synapse/admin/v1/deactivate/${encode(bob.userId)}`, {});
  const member = await admin.api.ok(
    "GET",
    `/rooms/${encode(roomId)}/state/m.room.member/${encode(bob.userId)}`,
  );
  expect(member["membership"]).toBe("leave");
});

test("a denial names the required level and the user's level", async () => {
  const bob = await person(server, "bob");
  const roomId = await makeRoom(admin, { preset: "public_chat" });
  await bob.api.ok("POST", `/rooms/${encode(roomId)}/join`, {});
  const state = await bob.api.put(`/rooms/${encode(roomId)}/state/m.room.topic`, { topic: "x" });
  expect(state.body["error"]).toBe("You need power level 50 to send m.room.topic in this room; you have 0");
  const kick = await bob.api.post(`/rooms/${encode(roomId)}/kick`, { user_id: admin.userId });
  expect(kick.body["error"]).toBe("You need power level 50 to kick in this room; you have 0");
});

test("a failed creation leaves no part of a room", async () => {
  const bob = await person(server, "bob");
  const alias = freshName("half");
  const answer = await bob.api.post("/createRoom", {
    room_alias_name: alias,
    power_level_content_override: { users: { [bob.userId]: 10 }, state_default: 50 },
    name: "never",
  });
  expect([answer.status, answer.body["errcode"]]).toEqual([403, "M_FORBIDDEN"]);
  expect((await bob.api.ok("GET", "/joined_rooms"))["joined_rooms"]).toEqual([]);
  expect((await bob.api.get(`/directory/room/${encode(`#${alias}:bureau.local`)}`)).status).toBe(404);
  expect(at(await syncOnce(bob), "rooms", "join")).toEqual({});
});

test("a failed creation moves no stream position, and later events survive a restart", async () => {
  const dataDir = mkdtempSync(join(tmpdir(), "bhs-"));
  const listen = [{ kind: "tcp", hostname: "127.0.0.1", port: 0 }] as const;
  const config = { dataDir, serverName: "bureau.local", listen, registrationToken: new Secret("tok") };
  const start = () => startHomeserver(config, { log: silentLog, clock: systemClock });
  let own = await start();
  const bob = await person({ ...server, url: own.url }, "bob");
  const alias = freshName("taken");
  const roomId = await makeRoom(bob, { room_alias_name: alias });
  expect((await bob.api.post("/createRoom", { room_alias_name: alias })).status).toBe(400);
  const since = String((await syncOnce(bob))["next_batch"]);
  await own[Symbol.asyncDispose]();
  own = await start();
  const again = { ...bob, api: new Caller(own.url, bob.token) };
  for (let n = 0; n < 4; n++) await again.api.ok("PUT", `/rooms/${encode(roomId)}/state/m.x/${n}`, {});
  const room = at(await syncOnce(again, { since }), "rooms", "join", roomId);
  expect(eventsAt(room, "timeline", "events").map((event) => event.state_key)).toEqual(["0", "1", "2", "3"]);
  await own[Symbol.asyncDispose]();
  rmSync(dataDir, { recursive: true, force: true });
});

test("refused keys change nothing and end no long poll", async () => {
  const bob = await person(server, "bob");
  const upload = await bob.api.post("/keys/upload", {
    device_keys: { user_id: bob.userId, device_id: bob.deviceId },
    fallback_keys: { "no colon": {} },
  });
  expect(upload.status).toBe(400);
  const since = String((await syncOnce(bob))["next_batch"]);
  expect(at(await syncOnce(bob, { since }), "device_lists", "changed")).toEqual([]);
});

test("slows down password guessing, and accepts the right password", async () => {
  const bob = await person(server, "bob");
  for (let n = 0; n < 20; n++) expect((await logIn(bob, "guess")).status).toBe(403);
  const answers = await Promise.all(Array.from({ length: 30 }, () => logIn(bob, "guess")));
  const limited = answers.filter(({ status }) => status === 429);
  expect(limited.length).toBeGreaterThan(0);
  for (const { body } of limited)
    expect(body).toMatchObject({ errcode: "M_LIMIT_EXCEEDED", retry_after_ms: expect.any(Number) });
  expect((await logIn(bob, bob.password)).status).toBe(200);
}, 60_000);

test("an alias below a namespace needs a server admin or power in the namespace", async () => {
  const [bob, carol] = [await person(server, "bob"), await person(server, "carol")];
  const ns = freshName("ns");
  const take = (who: Person, name: string) => who.api.post("/createRoom", { room_alias_name: name });
  // Also before the namespace exists.
  expect(await take(bob, `${ns}/system`)).toMatchObject({ status: 403, body: { errcode: "M_FORBIDDEN" } });
  const space = await makeRoom(admin, { room_alias_name: ns, preset: "public_chat" });
  await bob.api.ok("POST", `/join/${encode(space)}`, {});
  expect((await take(bob, `${ns}/fleet/prod/machine/next`)).status).toBe(403);
  const own = await makeRoom(bob, {});
  const alias = encode(`#${ns}/fleet/prod/machine/next:${server.serverName}`);
  const put = () => bob.api.put(`/directory/room/${alias}`, { room_id: own });
  expect(await put()).toMatchObject({ status: 403 });
  const levels = await admin.api.ok("GET", `/rooms/${encode(space)}/state/m.room.power_levels`);
  const users = { ...(levels["users"] as object), [bob.userId]: 100 };
  await admin.api.ok("PUT", `/rooms/${encode(space)}/state/m.room.power_levels`, { ...levels, users });
  expect((await put()).status).toBe(200);
  expect((await take(carol, `${ns}/lobby`)).status).toBe(403);
  expect((await take(admin, `${ns}/lobby`)).status).toBe(200);
  expect((await take(carol, freshName("plain"))).status).toBe(200);
});

test("a user who floods the server must wait; reads and the administrator do not", async () => {
  const bob = await person(server, "bob");
  const text = "x".repeat(250_000);
  const write = (who: Person, n: number) =>
    who.api.put(`/user/${encode(who.userId)}/account_data/flood`, { n, text });
  const answers = await Promise.all(Array.from({ length: 40 }, (_, n) => write(bob, n)));
  const limited = answers.filter(({ status }) => status === 429);
  expect(limited.length).toBeGreaterThan(0);
  expect(limited[0]?.body).toMatchObject({
    errcode: "M_LIMIT_EXCEEDED",
    retry_after_ms: expect.any(Number),
  });
  expect((await bob.api.get("/account/whoami")).status).toBe(200);
  const ours = await Promise.all(Array.from({ length: 40 }, (_, n) => write(admin, n)));
  expect(ours.every(({ status }) => status === 200)).toBe(true);
});

test("the admin API has a version, and refuses unsupported changes of an account", async () => {
  const bob = await person(server, "bob");
  const api = (who: Person, method: string, path: string, body?: object) =>
    fetch(`${server.url}/_synapse/admin/${path}`, {
      method,
      headers: { authorization: `Bearer ${who.token}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  const said = await api(admin, "GET", "v1/server_version");
  expect(at(await said.json(), "server_version")).toBeString();
  const user = `v2/users/${encode(bob.userId)}`;
  for (const field of ["suspended", "locked"]) {
    const refused = await api(admin, "PUT", user, { [field]: true });
    expect(refused.status).toBe(400);
    expect(at(await refused.json(), "error")).toBe(`This homeserver cannot do "${field}" to an account`);
    expect((await api(admin, "PUT", user, { [field]: false })).status).toBe(200);
  }
});

test("refuses a login with an invalid name and stores nothing", async () => {
  const login = {
    type: "m.login.password",
    identifier: { type: "m.id.user", user: "n".repeat(300) },
    password: "guess",
  };
  const caller = new Caller(server.url);
  for (let n = 0; n < 25; n++) expect((await caller.post("/login", login)).status).toBe(403);
});

test("tokens and passwords are not in the database file", () => {
  const bytes =
    readFileSync(join(folder, "homeserver.db-wal"), "latin1") +
    readFileSync(join(folder, "homeserver.db"), "latin1");
  expect(bytes).toContain(admin.userId);
  expect(bytes).not.toContain(admin.token);
  expect(bytes).not.toContain(admin.password);
});

test("refuses bodies above a megabyte, with and without a Content-Length", async () => {
  const big = `{"x":"${"y".repeat(1_100_000)}"}`;
  const announced = await admin.api.raw("POST", "/createRoom", big);
  expect([announced.status, at(await announced.json(), "errcode")]).toEqual([413, "M_TOO_LARGE"]);
  const chunks = new ReadableStream({
    start(controller) {
      for (let n = 0; n < 20; n++) controller.enqueue(new TextEncoder().encode("z".repeat(65_536)));
      controller.close();
    },
  });
  const streamed = await fetch(`${server.url}/_matrix/client/v3/createRoom`, {
    method: "POST",
    headers: { authorization: `Bearer ${admin.token}` },
    body: chunks,
  });
  expect([streamed.status, at(await streamed.json(), "errcode")]).toEqual([413, "M_TOO_LARGE"]);
});

test("refuses hostile JSON and keeps serving", async () => {
  const roomId = await makeRoom(admin);
  const put = async (body: string): Promise<[number, unknown]> => {
    const response = await admin.api.raw("PUT", `/rooms/${encode(roomId)}/state/m.bureau.thing`, body);
    return [response.status, at(await response.json(), "errcode")];
  };
  const nested = (depth: number): string => `{"a":${"[".repeat(depth)}${"]".repeat(depth)}}`;
  expect(await put(nested(400_000))).toEqual([400, expect.stringMatching(/M_BAD_JSON|M_NOT_JSON/)]);
  expect(await put(nested(1_000))).toEqual([400, "M_BAD_JSON"]);
  expect(await put('{"a":"\\ud800"}')).toEqual([400, "M_BAD_JSON"]);
  expect(await put('{"a":1e400}')).toEqual([400, "M_BAD_JSON"]);
  expect(await put('"text"')).toEqual([400, "M_BAD_JSON"]);
  expect(await put('{"a":')).toEqual([400, "M_NOT_JSON"]);
  expect(await put('{"__proto__":{"polluted":1},"constructor":{"prototype":1}}')).toEqual([200, undefined]);
  expect(Reflect.get({}, "polluted")).toBeUndefined();
  const receipt = await admin.api.post(`/rooms/${encode(roomId)}/receipt/m.read/__proto__`);
  expect([receipt.status, receipt.body["errcode"]]).toEqual([400, "M_INVALID_PARAM"]);
  const notUtf8 = await fetch(`${server.url}/_matrix/client/v3/rooms/${encode(roomId)}/state/m.x`, {
    method: "PUT",
    headers: { authorization: `Bearer ${admin.token}` },
    body: new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]),
  });
  expect(notUtf8.status).toBe(400);
});

test("refuses too long names and paths that are not UTF-8", async () => {
  const roomId = await makeRoom(admin);
  const long = "k".repeat(256);
  expect((await admin.api.put(`/rooms/${encode(roomId)}/state/m.x/${long}`, {})).status).toBe(413);
  expect((await admin.api.put(`/rooms/${encode(roomId)}/state/${long}`, {})).status).toBe(413);
  expect((await admin.api.get(`/rooms/%ff/state`)).status).toBe(400);
  expect((await admin.api.get(`/rooms/${encode(roomId)}/messages?dir=sideways`)).status).toBe(400);
  expect((await admin.api.get(`/rooms/${encode(roomId)}/messages?dir=b&limit=-1`)).status).toBe(400);
  expect(
    (await admin.api.get(`/sync?filter=${encode('{"room":{"timeline":{"limit":"many"}}}')}`)).status,
  ).toBe(400);
  expect((await admin.api.get("/sync?since=s999999999")).status).toBe(400);
});

test("a disconnect during a long poll leaves no state behind", async () => {
  const bob = await person(server, "bob");
  const since = String((await syncOnce(bob))["next_batch"]);
  const { port } = homeserver;
  const socket = connect(port, "127.0.0.1");
  await new Promise<void>((resolve) => socket.once("connect", () => resolve()));
  const head = `GET /_matrix/client/v3/sync?since=${since}&timeout=30000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${bob.token}\r\n\r\n`;
  socket.write(head);
  await bob.api.ok("GET", "/account/whoami");
  socket.destroy();
  const roomId = await makeRoom(bob);
  expect(at(await syncOnce(bob, { since }), "rooms", "join", roomId)).toBeDefined();
});

test("an unfinished request does not prevent the server from stopping", async () => {
  const dataDir = mkdtempSync(join(tmpdir(), "bhs-"));
  const listen = [{ kind: "tcp", hostname: "127.0.0.1", port: 0 }] as const;
  const config = { dataDir, serverName: "bureau.local", listen, registrationToken: new Secret("tok") };
  const other = await startHomeserver(config, { log: silentLog, clock: systemClock });
  const socket = connect(other.port, "127.0.0.1");
  const answered = new Promise<void>((resolve) => socket.once("data", () => resolve()));
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("error", () => {});
  const head = "Host: x\r\n";
  socket.write(`GET /_matrix/client/versions HTTP/1.1\r\n${head}\r\n`);
  await answered;
  socket.write(`POST /_matrix/client/v3/login HTTP/1.1\r\n${head}Content-Length: 100\r\n\r\n{"type":`);
  await fetch(`${other.url}/_matrix/client/versions`);
  const began = performance.now();
  await other[Symbol.asyncDispose]();
  await closed;
  expect(performance.now() - began).toBeLessThan(4_000);
  rmSync(dataDir, { recursive: true, force: true });
});

test("hidden events stay hidden from a former member who refuses a later invite", async () => {
  const bob = await person(server, "bob");
  const roomId = await makeRoom(admin, { invite: [bob.userId] });
  const room = `/rooms/${encode(roomId)}`;
  await bob.api.ok("POST", `${room}/join`, {});
  await bob.api.ok("POST", `${room}/leave`, {});
  await admin.api.ok("PUT", `${room}/state/m.room.topic`, { topic: "secret topic" });
  await admin.api.ok("POST", `${room}/invite`, { user_id: bob.userId });
  await bob.api.ok("POST", `${room}/leave`, {});
  expect((await bob.api.get(`${room}/state/m.room.topic`)).status).toBe(404);
  const filter = JSON.stringify({ room: { include_leave: true } });
  expect(JSON.stringify(await syncOnce(bob, { filter }))).not.toContain("secret topic");
});

/** A room of the admin's with a second member, and a function that sends to it and returns the event's ID. */
async function roomWith(who: Person, request: Record<string, unknown> = {}) {
  const roomId = await makeRoom(admin, { preset: "public_chat", ...request });
  const room = `/rooms/${encode(roomId)}`;
  await who.api.ok("POST", `${room}/join`, {});
  const send = async (by: Person, content: object, to = room): Promise<string> =>
    String((await by.api.ok("PUT", `${to}/send/m.room.message/${freshName("t")}`, content))["event_id"]);
  const read = (by: Person, eventId: string) => by.api.ok("GET", `${room}/event/${encode(eventId)}`);
  return { roomId, room, send, read };
}
const relatesTo = (relType: string, eventId: string) => ({
  "m.relates_to": { rel_type: relType, event_id: eventId },
});

test("bundles only related events that the viewer may see, of the same room", async () => {
  const [bob, eve] = [await person(server, "bob"), await person(server, "eve")];
  const { room, send, read } = await roomWith(bob);
  const root = await send(admin, { body: "root" });
  const seen = await send(admin, { body: "seen", ...relatesTo("m.thread", root) });
  await bob.api.ok("POST", `${room}/leave`, {});
  await send(admin, { body: "later", ...relatesTo("m.thread", root) });
  await send(admin, { body: "edited later", ...relatesTo("m.replace", root) });
  await send(admin, { body: "refers later", ...relatesTo("m.reference", root) });
  const elsewhere = `/rooms/${encode(await makeRoom(eve))}`;
  await send(eve, { body: "foreign", ...relatesTo("m.thread", root) }, elsewhere);
  const relations = at(await read(bob, root), "unsigned", "m.relations");
  expect(Object.keys(relations as object)).toEqual(["m.thread"]);
  expect(at(relations, "m.thread")).toMatchObject({ count: 1, latest_event: { event_id: seen } });
  const own = at(await read(admin, root), "unsigned", "m.relations");
  expect(own).toMatchObject({
    "m.thread": { count: 2, latest_event: { content: { body: "later" } }, current_user_participated: true },
    "m.replace": { content: { body: "edited later" } },
    "m.reference": { chunk: [{}] },
  });
  await admin.api.ok("PUT", `${room}/redact/${encode(seen)}/${freshName("r")}`, {
    reason: "a secret reason",
  });
  expect(JSON.stringify(await read(admin, seen))).toContain("a secret reason");
  const redacted = await read(bob, seen);
  expect(at(redacted, "unsigned", "redacted_because", "type")).toBe("m.room.redaction");
  expect(JSON.stringify(redacted)).not.toContain("a secret reason");
});

test("bundled events have no bundled events", async () => {
  const bob = await person(server, "bob");
  const { room, send } = await roomWith(bob);
  let last = await send(bob, { body: "root" });
  for (let n = 0; n < 20; n++)
    last = await send(bob, { body: "y".repeat(1_000), ...relatesTo("m.thread", last) });
  const page = await bob.api.ok("GET", `${room}/messages?dir=b&limit=100`);
  expect(eventsAt(page, "chunk").length).toBeGreaterThan(20);
  expect(JSON.stringify(page).length).toBeLessThan(100_000);
});

test("a former member cannot read state from after they left, on any endpoint", async () => {
  const [bob, carol] = [await person(server, "bob"), await person(server, "carol")];
  const { roomId, room } = await roomWith(bob);
  await admin.api.ok("POST", `${room}/kick`, { user_id: bob.userId });
  await carol.api.ok("POST", `${room}/join`, {});
  await admin.api.ok("PUT", `${room}/state/m.room.member/${encode(admin.userId)}`, {
    membership: "join",
    displayname: "a secret name",
  });
  await admin.api.ok("PUT", `${room}/state/m.test.secret`, { v: "a secret" });
  await admin.api.ok("POST", `${room}/ban`, { user_id: bob.userId });
  for (const lazy of [false, true]) {
    const filter = JSON.stringify({ room: { include_leave: true, state: { lazy_load_members: lazy } } });
    const left = at(await syncOnce(bob, { filter }), "rooms", "leave", roomId);
    const ban = eventsAt(left, "timeline", "events").findLast((event) => event.state_key === bob.userId);
    expect(ban?.content["membership"]).toBe("ban");
    const lazyFilter = encode(JSON.stringify({ lazy_load_members: lazy }));
    const context = await bob.api.ok(
      "GET",
      `${room}/context/${encode(String(ban?.event_id))}?limit=4&filter=${lazyFilter}`,
    );
    expect(eventsAt(context, "state").length).toBeGreaterThan(0);
    const page = await bob.api.ok("GET", `${room}/messages?dir=b&filter=${lazyFilter}`);
    const told = JSON.stringify([left, context, page]);
    for (const secret of ["a secret", carol.userId]) expect(told).not.toContain(secret);
  }
});

test("a later member does not read earlier members where the history is hidden", async () => {
  const bob = await person(server, "bob");
  const visibility = { type: "m.room.history_visibility", content: { history_visibility: "joined" } };
  const roomId = await makeRoom(admin, { preset: "public_chat", initial_state: [visibility] });
  const early = encode(String((await syncOnce(admin))["next_batch"]));
  const room = `/rooms/${encode(roomId)}`;
  await bob.api.ok("POST", `${room}/join`, {});
  const now = encode(String((await syncOnce(bob))["next_batch"]));
  expect((await bob.api.get(`${room}/members?at=${early}`)).body["errcode"]).toBe("M_FORBIDDEN");
  expect(eventsAt(await admin.api.ok("GET", `${room}/members?at=${early}`), "chunk")).toHaveLength(1);
  expect(eventsAt(await bob.api.ok("GET", `${room}/members?at=${now}`), "chunk")).toHaveLength(2);
  await bob.api.ok("POST", `${room}/leave`, {});
  expect(eventsAt(await bob.api.ok("GET", `${room}/members?at=${now}`), "chunk")).toHaveLength(2);
  const later = encode(String((await syncOnce(admin))["next_batch"]));
  expect(eventsAt(await bob.api.ok("GET", `${room}/members?at=${later}`), "chunk")).toHaveLength(2);
});

test("state redacted in a gap or behind a filter is sent again, empty", async () => {
  const bob = await person(server, "bob");
  const { roomId, room, send } = await roomWith(bob);
  const put = async (key: string, n: number): Promise<string> =>
    String((await admin.api.ok("PUT", `${room}/state/m.test/${key}`, { n }))["event_id"]);
  const redact = (id: string) =>
    admin.api.ok("PUT", `${room}/redact/${encode(id)}/${freshName("r")}`, { reason: "why" });
  const [kept, replaced] = [await put("kept", 1), await put("replaced", 1)];
  const since = String((await syncOnce(bob))["next_batch"]);
  await redact(kept);
  await redact(replaced);
  await put("replaced", 2);
  for (let n = 0; n < 3; n++) await send(bob, { n });
  const stateWith = async (timeline: object): Promise<unknown[]> => {
    const filter = JSON.stringify({ room: { timeline } });
    const part = at(await syncOnce(bob, { since, filter }), "rooms", "join", roomId);
    return eventsAt(part, "state", "events").map((event) => [event.state_key, event.content]);
  };
  const told = [
    ["kept", {}],
    ["replaced", { n: 2 }],
  ];
  expect(await stateWith({ limit: 2 })).toEqual(told);
  expect(await stateWith({ types: ["m.room.message"] })).toEqual(told);
  expect(await stateWith({ limit: 50 })).toEqual([]);
});

test("an empty page after many events has a token to continue from", async () => {
  const dataDir = mkdtempSync(join(tmpdir(), "bhs-"));
  const listen = [{ kind: "tcp", hostname: "127.0.0.1", port: 0 }] as const;
  const config = { dataDir, serverName: "bureau.local", listen, registrationToken: new Secret("tok") };
  let own = await startHomeserver(config, { log: silentLog, clock: systemClock });
  const bob = await person({ ...server, url: own.url }, "bob");
  const roomId = await makeRoom(bob);
  await own[Symbol.asyncDispose]();
  fillRoom(dataDir, roomId, 12_000);
  own = await startHomeserver(config, { log: silentLog, clock: systemClock });
  const api = new Caller(own.url, bob.token);
  const room = `/rooms/${encode(roomId)}`;
  await api.ok("PUT", `${room}/send/m.last/t`, {});
  for (const [dir, type] of [
    ["b", "m.room.create"],
    ["f", "m.last"],
  ]) {
    const filter = encode(JSON.stringify({ types: [type] }));
    const found: string[] = [];
    let [pages, from] = [0, ""];
    for (; pages === 0 || from !== ""; pages++) {
      const page = await api.ok("GET", `${room}/messages?dir=${dir}&limit=1&from=${from}&filter=${filter}`);
      found.push(...eventsAt(page, "chunk").map((event) => event.type));
      if (found.length > 0) break;
      from = String(page["end"] ?? "");
    }
    expect([found, pages]).toEqual([[String(type)], 2]);
  }
  const time = `/_matrix/client/v1${room}/timestamp_to_event`;
  expect((await api.get(`${time}?ts=${Date.now() + 60_000}&dir=f`)).status).toBe(404);
  expect((await api.get(`${time}?ts=${Date.now() + 60_000}&dir=b`)).status).toBe(200);
  await own[Symbol.asyncDispose]();
  rmSync(dataDir, { recursive: true, force: true });
});

/** Writes `count` messages into a room of a stopped homeserver. */
function fillRoom(dataDir: string, roomId: string, count: number): void {
  const db = openDatabase(dataDir);
  const events = createEventStore(db);
  const rest = { replaces: null, redacts: null, redactedBy: null, txnDevice: null, txnId: null };
  db.transaction(() => {
    for (let n = 0; n < count; n++) {
      const stream = db.advance();
      const event = { stream, eventId: `$${n}`, roomId, type: "m.fill", stateKey: null, sender: "@a:x" };
      events.insert({ ...event, content: {}, originServerTs: 0, ...rest }, "{}", undefined);
    }
  });
  db.close();
}

test("sends many messages to a device in several answers, each once, and refuses a large one", async () => {
  const bob = await person(server, "bob");
  const to = (body: object) => ({ messages: { [bob.userId]: { [bob.deviceId]: body } } });
  for (let n = 0; n < 150; n++)
    await admin.api.ok("PUT", `/sendToDevice/m.test/${freshName("d")}`, to({ n }));
  const large = await admin.api.put(`/sendToDevice/m.test/${freshName("d")}`, to({ x: "y".repeat(66_000) }));
  expect([large.status, large.body["errcode"]]).toEqual([413, "M_TOO_LARGE"]);
  const numbers: unknown[] = [];
  let since: string | undefined;
  for (const expected of [100, 50, 0]) {
    const query: Record<string, string> = since === undefined ? {} : { since };
    const body = await syncOnce(bob, query);
    // Asked again with the same token, it gives the same: the answer may have been lost on its way.
    expect(at(await syncOnce(bob, query), "to_device")).toEqual(at(body, "to_device"));
    const events = eventsAt(body, "to_device", "events");
    expect(events).toHaveLength(expected);
    numbers.push(...events.map((event) => event.content["n"]));
    since = String(body["next_batch"]);
  }
  expect(numbers).toEqual(Array.from({ length: 150 }, (_, n) => n));
});

test("limits a user's data, and accepts a smaller replacement", async () => {
  const bob = await person(server, "bob");
  const put = (type: string, bytes: number) =>
    bob.api.put(`/user/${encode(bob.userId)}/account_data/${type}`, { x: "y".repeat(bytes) });
  // So many bytes in so short a time are an administrator's only.
  const right = `${server.url}/_synapse/admin/v1/users/${encode(bob.userId)}/admin`;
  const headers = { authorization: `Bearer ${admin.token}` };
  await fetch(right, { method: "PUT", headers, body: JSON.stringify({ admin: true }) });
  expect((await put("m.huge", 270_000)).status).toBe(413);
  const statuses: number[] = [];
  for (let n = 0; n < 17; n++) statuses.push((await put(`m.n${n}`, 250_000)).status);
  expect(statuses).toEqual([...Array.from({ length: 16 }, () => 200), 413]);
  expect((await put("m.n0", 100)).status).toBe(200);
  expect((await put("m.n17", 200_000)).status).toBe(200);
});

test("a room version 10 room has its creator in the create event and redactions outside the content", async () => {
  const roomId = await makeRoom(admin, { room_version: "10" });
  const create = await admin.api.ok("GET", `/rooms/${encode(roomId)}/state/m.room.create`);
  expect(create).toEqual({ room_version: "10", creator: admin.userId });
  const sent = await admin.api.ok("PUT", `/rooms/${encode(roomId)}/send/m.room.message/v1`, { body: "x" });
  const eventId = String(sent["event_id"]);
  const redaction = await admin.api.ok("PUT", `/rooms/${encode(roomId)}/redact/${encode(eventId)}/v2`, {
    reason: "why",
  });
  const event = await admin.api.ok(
    "GET",
    `/rooms/${encode(roomId)}/event/${encode(String(redaction["event_id"]))}`,
  );
  expect(event).toMatchObject({ redacts: eventId, content: { reason: "why" } });
});
