/**
 * The homeserver behaviour that Bureau relies on, as plain HTTP. The same tests run on the embedded one and on a real
 * Synapse. Where the two may differ, a test checks what both guarantee.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { eventually } from "@bureau/testkit/use-bureau";
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
} from "./matrix-caller.ts";

/** Runs the contract against the server that `start` gives; one server for all tests of it. */
export function defineClientServerContract(name: string, start: () => Promise<Server>): void {
  describe(name, () => {
    let server: Server;
    beforeAll(async () => {
      server = await start();
    }, 120_000);
    afterAll(() => server.stop());
    const get = (): Server => server;
    describe("accounts", () => accounts(get));
    describe("rooms", () => rooms(get));
    describe("membership", () => membership(get));
    describe("power levels", () => powerLevels(get));
    describe("timeline", () => timeline(get));
    describe("sync", () => sync(get));
    describe("user data", () => userData(get));
    describe("malformed requests", () => malformed(get));
  });
}

const errcode = (answer: { status: number; body: Record<string, unknown> }): [number, unknown] => [
  answer.status,
  answer.body["errcode"],
];

let txn = 0;
const send = (
  by: Person,
  roomId: string,
  body: string,
  extra: Record<string, unknown> = {},
): Promise<string> =>
  by.api
    .ok("PUT", `/rooms/${encode(roomId)}/send/m.room.message/t${txn++}`, {
      msgtype: "m.text",
      body,
      ...extra,
    })
    .then((answer) => String(answer["event_id"]));
const setState = async (
  by: Person,
  roomId: string,
  type: string,
  key: string,
  content: unknown,
): Promise<string> =>
  String(
    (await by.api.ok("PUT", `/rooms/${encode(roomId)}/state/${type}/${encode(key)}`, content))["event_id"],
  );
const join = (who: Person, roomId: string) => who.api.ok("POST", `/rooms/${encode(roomId)}/join`, {});
const invite = (by: Person, roomId: string, who: Person) =>
  by.api.ok("POST", `/rooms/${encode(roomId)}/invite`, { user_id: who.userId });
const syncOnce = (who: Person, query: Record<string, string> = {}): Promise<Record<string, unknown>> =>
  who.api.ok("GET", `/sync?${new URLSearchParams({ timeout: "0", ...query })}`);
const bodies = (events: { content: Record<string, unknown> }[]): unknown[] =>
  events.map((e) => e.content["body"]);

/** Syncs with a long poll until `done` returns true, and advances the token. */
async function syncUntil(
  who: Person,
  since: string,
  done: (body: Record<string, unknown>) => boolean,
  query: Record<string, string> = {},
): Promise<Record<string, unknown>> {
  let token = since;
  for (let round = 0; round < 20; round++) {
    const body = await syncOnce(who, { since: token, timeout: "2000", ...query });
    if (done(body)) return body;
    token = String(body["next_batch"]);
  }
  throw new Error("sync never gave what was waited for");
}

/** Waits for work that a server may do in the background. */
const until = (holds: () => Promise<boolean>): Promise<true> =>
  eventually(async () => (await holds()) || undefined);

/** Two people joined to one room, which the first made as `request` says. */
async function pair(
  server: Server,
  request: Record<string, unknown> = {},
): Promise<{ alice: Person; bob: Person; roomId: string }> {
  const [alice, bob] = await Promise.all([person(server, "alice"), person(server, "bob")]);
  const roomId = await makeRoom(alice, { ...request, invite: [bob.userId] });
  await join(bob, roomId);
  return { alice, bob, roomId };
}

function accounts(server: () => Server): void {
  test("versions name v1.11 and need no token", async () => {
    const body = await new Caller(server().url).ok("GET", "/_matrix/client/versions");
    expect(body["versions"]).toContain("v1.11");
  });

  test("registration without a token returns its flows, and a wrong token is refused", async () => {
    const caller = new Caller(server().url);
    const request = { username: freshName("reg"), password: "secret words" };
    const challenge = await caller.post("/register", request);
    expect(challenge.status).toBe(401);
    const stages = (challenge.body["flows"] as { stages: string[] }[]).map((flow) => flow.stages);
    expect(stages.every((list) => list.includes("m.login.registration_token"))).toBe(true);
    const auth = { type: "m.login.registration_token", token: "wrong", session: challenge.body["session"] };
    const refused = await caller.post("/register", { ...request, auth });
    expect(refused.status).toBe(401);
    expect(refused.body["completed"] ?? []).toEqual([]);
    expect(refused.body["errcode"]).toBe("M_UNAUTHORIZED");
    expect(
      (
        await caller.post("/login", {
          type: "m.login.password",
          user: request.username,
          password: request.password,
        })
      ).status,
    ).toBe(403);
  });

  test("the validity of a registration token can be queried", async () => {
    const path = (token: string): string =>
      `/_matrix/client/v1/register/m.login.registration_token/validity?token=${token}`;
    const caller = new Caller(server().url);
    expect(await caller.ok("GET", path(server().registrationToken))).toEqual({ valid: true });
    expect(await caller.ok("GET", path("wrong"))).toEqual({ valid: false });
  });

  test("a name that is taken or invalid cannot be registered", async () => {
    const taken = await person(server());
    const caller = new Caller(server().url);
    const localpart = taken.userId.slice(1, taken.userId.indexOf(":"));
    expect(errcode(await caller.post("/register", { username: localpart, password: "x y z" }))).toEqual([
      400,
      "M_USER_IN_USE",
    ]);
    expect(errcode(await caller.get(`/register/available?username=${localpart}`))).toEqual([
      400,
      "M_USER_IN_USE",
    ]);
    expect(errcode(await caller.post("/register", { username: "not a name", password: "x y z" }))).toEqual([
      400,
      "M_INVALID_USERNAME",
    ]);
    expect(await caller.ok("GET", `/register/available?username=${freshName("free")}`)).toEqual({
      available: true,
    });
  });

  test("localparts with slashes work as users", async () => {
    const user = await person(server(), "bureau/fleet/prod/machine/box");
    expect(user.userId).toStartWith("@bureau/fleet/prod/machine/box");
    expect(await user.api.ok("GET", "/account/whoami")).toMatchObject({
      user_id: user.userId,
      device_id: user.deviceId,
    });
    expect(await user.api.ok("GET", `/profile/${encode(user.userId)}/displayname`)).toHaveProperty(
      "displayname",
    );
  });

  test("login works by user ID, by localpart and in the legacy form, and refuses a wrong password", async () => {
    const user = await person(server());
    const caller = new Caller(server().url);
    const localpart = user.userId.slice(1, user.userId.indexOf(":"));
    const attempt = (extra: object) =>
      caller.post("/login", { type: "m.login.password", password: user.password, ...extra });
    for (const identifier of [user.userId, localpart]) {
      const answer = await attempt({ identifier: { type: "m.id.user", user: identifier } });
      expect(answer.status).toBe(200);
      expect(answer.body["user_id"]).toBe(user.userId);
    }
    expect((await attempt({ user: localpart })).status).toBe(200);
    expect(errcode(await attempt({ user: localpart, password: "wrong" }))).toEqual([403, "M_FORBIDDEN"]);
    expect(errcode(await attempt({ user: "unknown-user" }))).toEqual([403, "M_FORBIDDEN"]);
    const flows = await caller.ok("GET", "/login");
    expect(at(flows, "flows")).toContainEqual({ type: "m.login.password" });
  });

  test("a missing token and an unknown token have different errors", async () => {
    expect(errcode(await new Caller(server().url).get("/account/whoami"))).toEqual([401, "M_MISSING_TOKEN"]);
    expect(errcode(await new Caller(server().url, "nonsense").get("/account/whoami"))).toEqual([
      401,
      "M_UNKNOWN_TOKEN",
    ]);
  });

  test("logout ends only that token, logout of all ends all", async () => {
    const user = await person(server());
    const again = await new Caller(server().url).ok("POST", "/login", {
      type: "m.login.password",
      identifier: { type: "m.id.user", user: user.userId },
      password: user.password,
    });
    const second = new Caller(server().url, String(again["access_token"]));
    await user.api.ok("POST", "/logout", {});
    expect(errcode(await user.api.get("/account/whoami"))).toEqual([401, "M_UNKNOWN_TOKEN"]);
    await second.ok("GET", "/account/whoami");
    await second.ok("POST", "/logout/all", {});
    expect(errcode(await second.get("/account/whoami"))).toEqual([401, "M_UNKNOWN_TOKEN"]);
  });

  test("logging in again on a device keeps the device", async () => {
    const user = await person(server());
    const login = await new Caller(server().url).ok("POST", "/login", {
      type: "m.login.password",
      identifier: { type: "m.id.user", user: user.userId },
      password: user.password,
      device_id: user.deviceId,
    });
    expect(login["device_id"]).toBe(user.deviceId);
    const again = new Caller(server().url, String(login["access_token"]));
    expect((await again.ok("GET", "/devices"))["devices"]).toHaveLength(1);
  });

  test("devices can be listed, renamed and deleted with the password", async () => {
    const user = await person(server());
    const login = await new Caller(server().url).ok("POST", "/login", {
      type: "m.login.password",
      user: user.userId.slice(1, user.userId.indexOf(":")),
      password: user.password,
      device_id: "SECOND",
      initial_device_display_name: "second",
    });
    expect(login["device_id"]).toBe("SECOND");
    await user.api.ok("PUT", "/devices/SECOND", { display_name: "renamed" });
    expect(await user.api.ok("GET", "/devices/SECOND")).toMatchObject({
      device_id: "SECOND",
      display_name: "renamed",
    });
    const challenge = await user.api.delete("/devices/SECOND", {});
    expect(challenge.status).toBe(401);
    const auth = {
      type: "m.login.password",
      identifier: { type: "m.id.user", user: user.userId },
      password: user.password,
      session: challenge.body["session"],
    };
    await user.api.ok("DELETE", "/devices/SECOND", { auth });
    expect(
      errcode(await new Caller(server().url, String(login["access_token"])).get("/account/whoami")),
    ).toEqual([401, "M_UNKNOWN_TOKEN"]);
    expect(errcode(await user.api.get("/devices/SECOND"))).toEqual([404, "M_NOT_FOUND"]);
  });

  test("changing the password needs the old one, and logs other devices out", async () => {
    const user = await person(server());
    const localpart = user.userId.slice(1, user.userId.indexOf(":"));
    const login = (password: string) =>
      new Caller(server().url).post("/login", { type: "m.login.password", user: localpart, password });
    const other = new Caller(server().url, String((await login(user.password)).body["access_token"]));
    const auth = { type: "m.login.password", identifier: { type: "m.id.user", user: user.userId } };
    const change = (password: string, session?: unknown) =>
      user.api.post("/account/password", {
        new_password: "another secret",
        auth: { ...auth, password, ...(session === undefined ? {} : { session }) },
      });
    expect((await change("wrong")).status).toBeOneOf([401, 403]);
    const challenge = await user.api.post("/account/password", {});
    expect(challenge.status).toBe(401);
    expect((await change(user.password, challenge.body["session"])).status).toBe(200);
    expect(errcode(await other.get("/account/whoami"))).toEqual([401, "M_UNKNOWN_TOKEN"]);
    await user.api.ok("GET", "/account/whoami");
    expect((await login(user.password)).status).toBe(403);
    expect((await login("another secret")).status).toBe(200);
  });

  test("a deactivated account loses access at once and permanently", async () => {
    const { bob, alice, roomId } = await pair(server());
    const challenge = await bob.api.post("/account/deactivate", {});
    expect(challenge.status).toBe(401);
    const auth = {
      type: "m.login.password",
      identifier: { type: "m.id.user", user: bob.userId },
      password: bob.password,
      session: challenge.body["session"],
    };
    await bob.api.ok("POST", "/account/deactivate", { auth });
    expect(errcode(await bob.api.get("/account/whoami"))).toEqual([401, "M_UNKNOWN_TOKEN"]);
    const login = await new Caller(server().url).post("/login", {
      type: "m.login.password",
      user: bob.userId.slice(1, bob.userId.indexOf(":")),
      password: bob.password,
    });
    expect(login.status).toBe(403);
    expect(login.body["errcode"]).toBeOneOf(["M_USER_DEACTIVATED", "M_FORBIDDEN"]);
    // Synapse leaves the rooms in the background.
    const gone = async (): Promise<boolean> =>
      !Object.keys(
        at(await alice.api.ok("GET", `/rooms/${encode(roomId)}/joined_members`), "joined") as object,
      ).includes(bob.userId);
    await until(gone);
  });

  test("only a server admin resets passwords, deactivates and creates accounts", async () => {
    const [bob, eve] = [await person(server(), "bob"), await person(server(), "eve")];
    const admin = new Caller(server().url, server().adminToken);
    const login = (password: string) =>
      new Caller(server().url).post("/login", {
        type: "m.login.password",
        identifier: { type: "m.id.user", user: bob.userId },
        password,
      });
    const reset = `/_synapse/admin/v1/reset_password/${encode(bob.userId)}`;
    const deactivate = `/_synapse/admin/v1/deactivate/${encode(bob.userId)}`;
    const user = `/_synapse/admin/v2/users/${encode(bob.userId)}`;
    expect(errcode(await eve.api.post(reset, { new_password: "stolen" }))).toEqual([403, "M_FORBIDDEN"]);
    expect(errcode(await eve.api.post(deactivate, {}))).toEqual([403, "M_FORBIDDEN"]);
    expect(errcode(await eve.api.put(user, { admin: true }))).toEqual([403, "M_FORBIDDEN"]);
    await admin.ok("POST", reset, { new_password: "set by the admin" });
    expect(errcode(await bob.api.get("/account/whoami"))).toEqual([401, "M_UNKNOWN_TOKEN"]);
    expect((await login(bob.password)).status).toBe(403);
    expect((await login("set by the admin")).status).toBe(200);
    await admin.ok("POST", deactivate, {});
    expect((await login("set by the admin")).status).toBe(403);
    expect(await admin.ok("GET", user)).toMatchObject({ name: bob.userId, deactivated: true });
    const made = `/_synapse/admin/v2/users/${encode(`@${freshName("made")}:${server().serverName}`)}`;
    expect((await admin.put(made, { password: "a new one" })).status).toBe(201);
    expect((await admin.put(made, { displayname: "Made" })).body).toMatchObject({
      displayname: "Made",
      admin: false,
    });
  });

  test("an interactive session is valid only for the operation it was opened for", async () => {
    const [bob, eve] = [await person(server(), "bob"), await person(server(), "eve")];
    const challenge = await eve.api.post("/account/password", { new_password: "another secret" });
    const auth = {
      type: "m.login.password",
      identifier: { type: "m.id.user", user: bob.userId },
      password: bob.password,
      session: challenge.body["session"],
    };
    // Another account's password does not pass, and the session is not valid for another operation.
    expect(
      (await eve.api.post("/account/password", { new_password: "another secret", auth })).status,
    ).toBeOneOf([401, 403]);
    expect((await bob.api.post("/account/deactivate", { auth })).status).toBeOneOf([400, 401, 403]);
    await bob.api.ok("GET", "/account/whoami");
  });

  test("a display name appears in the profile and the member events", async () => {
    const { alice, bob, roomId } = await pair(server());
    await bob.api.ok("PUT", `/profile/${encode(bob.userId)}/displayname`, { displayname: "Bob the builder" });
    expect(await alice.api.ok("GET", `/profile/${encode(bob.userId)}`)).toMatchObject({
      displayname: "Bob the builder",
    });
    const path = `/rooms/${encode(roomId)}/state/m.room.member/${encode(bob.userId)}`;
    // Synapse updates the rooms in the background.
    await until(async () => (await alice.api.ok("GET", path))["displayname"] === "Bob the builder");
    expect(
      (await bob.api.put(`/profile/${encode(alice.userId)}/displayname`, { displayname: "x" })).status,
    ).toBeOneOf([400, 403]);
  });
}

function rooms(server: () => Server): void {
  test("a new room has its create event, creator, levels, alias, name and topic", async () => {
    const alice = await person(server());
    const namespace = freshName("ns");
    const space = await makeRoom(alice, { room_alias_name: namespace });
    const localpart = `${namespace}/fleet/prod`;
    const alias = `#${localpart}:${server().serverName}`;
    const roomId = await makeRoom(alice, {
      name: "A name",
      topic: "A topic",
      room_alias_name: localpart,
      preset: "private_chat",
    });
    const state = (await alice.api.ok("GET", `/rooms/${encode(roomId)}/state`)) as unknown as {
      type: string;
      content: unknown;
    }[];
    const content = (type: string): unknown => state.find((event) => event.type === type)?.content;
    expect(content("m.room.create")).toMatchObject({ room_version: "11" });
    expect(content("m.room.member")).toMatchObject({ membership: "join" });
    expect(content("m.room.power_levels")).toMatchObject({
      users: { [alice.userId]: 100 },
      users_default: 0,
      ban: 50,
    });
    expect(content("m.room.name")).toEqual({ name: "A name" });
    expect(content("m.room.topic")).toMatchObject({ topic: "A topic" });
    expect(content("m.room.join_rules")).toEqual({ join_rule: "invite" });
    expect(content("m.room.history_visibility")).toEqual({ history_visibility: "shared" });
    expect(content("m.room.canonical_alias")).toMatchObject({ alias });
    expect(await alice.api.ok("GET", `/directory/room/${encode(alias)}`)).toMatchObject({ room_id: roomId });
    expect(await alice.api.ok("GET", "/joined_rooms")).toEqual({
      joined_rooms: expect.arrayContaining([space, roomId]),
    });
  });

  test("creation content, initial state and level overrides are applied", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice, {
      creation_content: { type: "m.space" },
      initial_state: [
        { type: "m.bureau.dev_team", state_key: "", content: { room: "#x:y" } },
        { type: "m.room.join_rules", content: { join_rule: "public" } },
      ],
      power_level_content_override: {
        events_default: 100,
        state_default: 100,
        invite: 77,
        users: { [alice.userId]: 100, "@x:y": 25 },
        events: { "m.bureau.machine_key": 0 },
      },
    });
    const read = (type: string) => alice.api.ok("GET", `/rooms/${encode(roomId)}/state/${type}`);
    expect(await read("m.room.create")).toMatchObject({ type: "m.space" });
    expect(await read("m.bureau.dev_team")).toEqual({ room: "#x:y" });
    expect(await read("m.room.join_rules")).toEqual({ join_rule: "public" });
    expect(await read("m.room.power_levels")).toMatchObject({
      events_default: 100,
      state_default: 100,
      invite: 77,
      events: { "m.bureau.machine_key": 0 },
    });
  });

  test("a taken alias refuses the room", async () => {
    const alice = await person(server());
    const localpart = freshName("taken");
    await makeRoom(alice, { room_alias_name: localpart });
    expect(errcode(await alice.api.post("/createRoom", { room_alias_name: localpart }))).toEqual([
      400,
      "M_ROOM_IN_USE",
    ]);
    expect((await alice.api.ok("GET", "/joined_rooms"))["joined_rooms"]).toHaveLength(1);
  });

  test("an unknown room version is refused", async () => {
    const alice = await person(server());
    expect(errcode(await alice.api.post("/createRoom", { room_version: "none" }))).toEqual([
      400,
      "M_UNSUPPORTED_ROOM_VERSION",
    ]);
  });

  test("state is read by type and key; missing state is not found", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice);
    const key = `bureau/fleet/prod/machine/box:${server().serverName}`;
    const eventId = await setState(alice, roomId, "m.bureau.machine_status", key, {
      cpu: 3,
      nested: { list: [1, "two", null, true] },
    });
    expect(eventId).toStartWith("$");
    const path = `/rooms/${encode(roomId)}/state`;
    expect(await alice.api.ok("GET", `${path}/m.bureau.machine_status/${encode(key)}`)).toEqual({
      cpu: 3,
      nested: { list: [1, "two", null, true] },
    });
    expect(errcode(await alice.api.get(`${path}/m.bureau.machine_status/other`))).toEqual([
      404,
      "M_NOT_FOUND",
    ]);
    expect(errcode(await alice.api.get(`${path}/m.bureau.nothing`))).toEqual([404, "M_NOT_FOUND"]);
    await setState(alice, roomId, "m.bureau.machine_status", key, {});
    expect(await alice.api.ok("GET", `${path}/m.bureau.machine_status/${encode(key)}`)).toEqual({});
  });

  test("the empty state key is the same with and without its slash", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice);
    const path = `/rooms/${encode(roomId)}/state/m.bureau.thing`;
    await alice.api.ok("PUT", path, { n: 1 });
    expect(await alice.api.ok("GET", `${path}/`)).toEqual({ n: 1 });
    await alice.api.ok("PUT", `${path}/`, { n: 2 });
    expect(await alice.api.ok("GET", path)).toEqual({ n: 2 });
  });

  test("aliases are added, listed and removed", async () => {
    const alice = await person(server());
    const bob = await person(server());
    const roomId = await makeRoom(alice);
    const alias = `#${freshName("alias")}:${server().serverName}`;
    await alice.api.ok("PUT", `/directory/room/${encode(alias)}`, { room_id: roomId });
    expect((await alice.api.put(`/directory/room/${encode(alias)}`, { room_id: roomId })).status).toBe(409);
    expect(await alice.api.ok("GET", `/rooms/${encode(roomId)}/aliases`)).toEqual({ aliases: [alias] });
    expect(errcode(await bob.api.delete(`/directory/room/${encode(alias)}`))).toEqual([403, "M_FORBIDDEN"]);
    await alice.api.ok("DELETE", `/directory/room/${encode(alias)}`);
    expect(errcode(await alice.api.get(`/directory/room/${encode(alias)}`))).toEqual([404, "M_NOT_FOUND"]);
  });

  test("a space shows its children to its members, and those only that they may enter or are in", async () => {
    const {
      alice,
      bob,
      roomId: space,
    } = await pair(server(), { creation_content: { type: "m.space" }, name: "Space" });
    const open = await makeRoom(alice, { name: "Open", preset: "public_chat" });
    const closed = await makeRoom(alice, { name: "Closed" });
    for (const child of [open, closed]) {
      await setState(alice, space, "m.space.child", child, { via: [server().serverName] });
    }
    const list = async (who: Person): Promise<unknown[]> => {
      const body = await who.api.ok("GET", `/_matrix/client/v1/rooms/${encode(space)}/hierarchy`);
      return (body["rooms"] as unknown[]).map((room) => at(room, "room_id"));
    };
    expect(new Set(await list(alice))).toEqual(new Set([space, open, closed]));
    expect(new Set(await list(bob))).toEqual(new Set([space, open]));
    const body = await bob.api.ok("GET", `/_matrix/client/v1/rooms/${encode(space)}/hierarchy`);
    expect(at(body, "rooms", 0)).toMatchObject({
      room_id: space,
      room_type: "m.space",
      name: "Space",
      num_joined_members: 2,
    });
    expect(
      eventsAt(body, "rooms", 0, "children_state")
        .map((event) => event.state_key)
        .sort(),
    ).toEqual([open, closed].sort());
    const eve = await person(server(), "eve");
    expect((await eve.api.get(`/_matrix/client/v1/rooms/${encode(space)}/hierarchy`)).status).toBe(403);
  });

  test("an upgraded room points to its successor, which has its name, alias and levels", async () => {
    const localpart = freshName("moves");
    const { alice, bob, roomId } = await pair(server(), {
      name: "Moving",
      room_alias_name: localpart,
      room_version: "10",
    });
    const upgrade = `/rooms/${encode(roomId)}/upgrade`;
    expect(errcode(await bob.api.post(upgrade, { new_version: "11" }))).toEqual([403, "M_FORBIDDEN"]);
    const next = String((await alice.api.ok("POST", upgrade, { new_version: "11" }))["replacement_room"]);
    const read = (room: string, type: string) => alice.api.ok("GET", `/rooms/${encode(room)}/state/${type}`);
    expect(await read(roomId, "m.room.tombstone")).toMatchObject({ replacement_room: next });
    expect(await read(next, "m.room.create")).toMatchObject({
      room_version: "11",
      predecessor: { room_id: roomId },
    });
    expect(await read(next, "m.room.name")).toEqual({ name: "Moving" });
    expect(await read(next, "m.room.power_levels")).toMatchObject({ users: { [alice.userId]: 100 } });
    const alias = `#${localpart}:${server().serverName}`;
    expect(await alice.api.ok("GET", `/directory/room/${encode(alias)}`)).toMatchObject({ room_id: next });
  });

  test("a canonical alias must point to the room", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice);
    const answer = await alice.api.put(`/rooms/${encode(roomId)}/state/m.room.canonical_alias`, {
      alias: `#${freshName("no")}:${server().serverName}`,
    });
    expect(errcode(answer)).toEqual([400, "M_BAD_ALIAS"]);
  });

  test("a stranger is forbidden everything about a room", async () => {
    const { roomId, alice } = await pair(server());
    const eve = await person(server(), "eve");
    const eventId = await send(alice, roomId, "secret");
    const room = `/rooms/${encode(roomId)}`;
    for (const path of [
      `${room}/state`,
      `${room}/state/m.room.name`,
      `${room}/members`,
      `${room}/joined_members`,
      `${room}/messages?dir=b`,
      `${room}/aliases`,
    ]) {
      expect(errcode(await eve.api.get(path))).toEqual([403, "M_FORBIDDEN"]);
    }
    for (const path of [
      `${room}/event/${encode(eventId)}`,
      `${room}/context/${encode(eventId)}`,
      `/_matrix/client/v1${room}/relations/${encode(eventId)}`,
    ]) {
      expect((await eve.api.get(path)).status).toBeOneOf([403, 404]);
    }
    expect(errcode(await eve.api.put(`${room}/send/m.room.message/x1`, { body: "hi" }))).toEqual([
      403,
      "M_FORBIDDEN",
    ]);
    expect(errcode(await eve.api.put(`${room}/state/m.room.topic`, { topic: "hi" }))).toEqual([
      403,
      "M_FORBIDDEN",
    ]);
  });
}

function membership(server: () => Server): void {
  test("joining an invite-only room needs an invite; by alias and by ID it works with one", async () => {
    const [alice, bob] = [await person(server()), await person(server())];
    const localpart = freshName("door");
    const roomId = await makeRoom(alice, { room_alias_name: localpart });
    const alias = `#${localpart}:${server().serverName}`;
    expect(errcode(await bob.api.post(`/join/${encode(alias)}`))).toEqual([403, "M_FORBIDDEN"]);
    await invite(alice, roomId, bob);
    expect(await bob.api.ok("POST", `/join/${encode(alias)}`, {})).toEqual({ room_id: roomId });
    expect(await bob.api.ok("POST", `/join/${encode(roomId)}`, {})).toEqual({ room_id: roomId });
    const { joined } = await bob.api.ok("GET", `/rooms/${encode(roomId)}/joined_members`);
    expect(Object.keys(joined as object).sort()).toEqual([alice.userId, bob.userId].sort());
  });

  test("anyone may join a public room; one that does not exist is not found", async () => {
    const [alice, bob] = [await person(server()), await person(server())];
    const roomId = await makeRoom(alice, { preset: "public_chat" });
    await join(bob, roomId);
    expect(
      (await bob.api.post(`/join/${encode(`#${freshName("none")}:${server().serverName}`)}`)).status,
    ).toBe(404);
    expect((await bob.api.post(`/join/${encode(`!nonexistent:${server().serverName}`)}`)).status).toBe(404);
  });

  test("a restricted room admits the members of the room it names", async () => {
    const { alice, bob, roomId } = await pair(server());
    const eve = await person(server(), "eve");
    const inner = await makeRoom(alice, {
      initial_state: [
        {
          type: "m.room.join_rules",
          content: { join_rule: "restricted", allow: [{ type: "m.room_membership", room_id: roomId }] },
        },
      ],
    });
    await join(bob, inner);
    expect(errcode(await eve.api.post(`/join/${encode(inner)}`))).toEqual([403, "M_FORBIDDEN"]);
  });

  test("members are listed by membership", async () => {
    const { alice, bob, roomId } = await pair(server());
    const carol = await person(server(), "carol");
    await invite(alice, roomId, carol);
    await bob.api.ok("POST", `/rooms/${encode(roomId)}/leave`, {});
    const list = async (query: string): Promise<unknown[]> =>
      eventsAt(await alice.api.ok("GET", `/rooms/${encode(roomId)}/members${query}`), "chunk").map(
        (event) => event.state_key,
      );
    expect(await list("?membership=join")).toEqual([alice.userId]);
    expect(await list("?membership=invite")).toEqual([carol.userId]);
    expect((await list("?not_membership=leave")).sort()).toEqual([alice.userId, carol.userId].sort());
    expect(await list("")).toHaveLength(3);
  });

  test("a kicked user is out, and may not send; the reason is in the event", async () => {
    const { alice, bob, roomId } = await pair(server());
    await alice.api.ok("POST", `/rooms/${encode(roomId)}/kick`, {
      user_id: bob.userId,
      reason: "machine decommissioned",
    });
    expect(
      errcode(await bob.api.put(`/rooms/${encode(roomId)}/send/m.room.message/k1`, { body: "hi" })),
    ).toEqual([403, "M_FORBIDDEN"]);
    const member = await alice.api.ok(
      "GET",
      `/rooms/${encode(roomId)}/state/m.room.member/${encode(bob.userId)}`,
    );
    expect(member).toMatchObject({ membership: "leave", reason: "machine decommissioned" });
    expect(errcode(await bob.api.post(`/rooms/${encode(roomId)}/join`))).toEqual([403, "M_FORBIDDEN"]);
  });

  test("a banned user can neither be invited nor join until unbanned", async () => {
    const { alice, bob, roomId } = await pair(server());
    const room = `/rooms/${encode(roomId)}`;
    await alice.api.ok("POST", `${room}/ban`, { user_id: bob.userId });
    // Since v1.13 of the specification the errcode may be M_BAD_STATE.
    expect((await alice.api.post(`${room}/invite`, { user_id: bob.userId })).status).toBe(403);
    expect((await bob.api.post(`${room}/join`)).status).toBe(403);
    await alice.api.ok("POST", `${room}/unban`, { user_id: bob.userId });
    await invite(alice, roomId, bob);
    await join(bob, roomId);
  });

  test("inviting a member is forbidden", async () => {
    const { alice, bob, roomId } = await pair(server());
    expect(errcode(await alice.api.post(`/rooms/${encode(roomId)}/invite`, { user_id: bob.userId }))).toEqual(
      [403, "M_FORBIDDEN"],
    );
  });

  test("a left room can be forgotten, a joined room cannot", async () => {
    const { bob, roomId } = await pair(server());
    const room = `/rooms/${encode(roomId)}`;
    expect((await bob.api.post(`${room}/forget`)).status).toBe(400);
    await bob.api.ok("POST", `${room}/leave`, {});
    await bob.api.ok("POST", `${room}/leave`, {});
    await bob.api.ok("POST", `${room}/forget`, {});
    expect((await bob.api.get(`${room}/messages?dir=b`)).status).toBe(403);
  });

  test("a former member reads the state and history up to leaving, and nothing later", async () => {
    const { alice, bob, roomId } = await pair(server());
    await setState(alice, roomId, "m.room.topic", "", { topic: "before" });
    await send(alice, roomId, "seen");
    await bob.api.ok("POST", `/rooms/${encode(roomId)}/leave`, {});
    await send(alice, roomId, "unseen");
    await setState(alice, roomId, "m.room.topic", "", { topic: "after" });
    expect(await bob.api.ok("GET", `/rooms/${encode(roomId)}/state/m.room.topic`)).toMatchObject({
      topic: "before",
    });
    const { chunk } = await bob.api.ok("GET", `/rooms/${encode(roomId)}/messages?dir=b&limit=50`);
    const seen = bodies(eventsAt(chunk));
    expect(seen).toContain("seen");
    expect(seen).not.toContain("unseen");
  });
}

function powerLevels(server: () => Server): void {
  test("sending needs the level of the type, and the error names it", async () => {
    const { alice, bob, roomId } = await pair(server());
    const levels = await alice.api.ok("GET", `/rooms/${encode(roomId)}/state/m.room.power_levels`);
    await setState(alice, roomId, "m.room.power_levels", "", {
      ...levels,
      events_default: 10,
      events: { "m.bureau.open": 0, "m.bureau.closed": 60 },
    });
    const room = `/rooms/${encode(roomId)}`;
    const denied = await bob.api.put(`${room}/send/m.room.message/p1`, { msgtype: "m.text", body: "x" });
    expect(errcode(denied)).toEqual([403, "M_FORBIDDEN"]);
    expect(denied.body["error"]).toContain("10");
    expect(errcode(await bob.api.put(`${room}/state/m.room.topic`, { topic: "x" }))).toEqual([
      403,
      "M_FORBIDDEN",
    ]);
    expect(errcode(await bob.api.put(`${room}/state/m.bureau.closed`, {}))).toEqual([403, "M_FORBIDDEN"]);
    expect((await bob.api.put(`${room}/state/m.bureau.open`, { ok: true })).status).toBe(200);
  });

  test("inviting, kicking, banning and redacting need their levels", async () => {
    const { alice, bob, roomId } = await pair(server());
    const carol = await person(server(), "carol");
    const room = `/rooms/${encode(roomId)}`;
    const eventId = await send(alice, roomId, "hers");
    const levels = await alice.api.ok("GET", `${room}/state/m.room.power_levels`);
    await setState(alice, roomId, "m.room.power_levels", "", { ...levels, invite: 50 });
    for (const [act, user] of [
      ["invite", carol],
      ["kick", alice],
      ["ban", alice],
    ] as const) {
      expect(errcode(await bob.api.post(`${room}/${act}`, { user_id: user.userId }))).toEqual([
        403,
        "M_FORBIDDEN",
      ]);
    }
    expect(errcode(await bob.api.put(`${room}/redact/${encode(eventId)}/r1`, {}))).toEqual([
      403,
      "M_FORBIDDEN",
    ]);
  });

  test("equals cannot kick each other", async () => {
    const { alice, bob, roomId } = await pair(server());
    const levels = await alice.api.ok("GET", `/rooms/${encode(roomId)}/state/m.room.power_levels`);
    await setState(alice, roomId, "m.room.power_levels", "", {
      ...levels,
      users: { [alice.userId]: 100, [bob.userId]: 100 },
    });
    expect(errcode(await bob.api.post(`/rooms/${encode(roomId)}/kick`, { user_id: alice.userId }))).toEqual([
      403,
      "M_FORBIDDEN",
    ]);
  });

  test("a user cannot grant more than their level, change a higher level, or lower an equal's level", async () => {
    const { alice, bob, roomId } = await pair(server());
    const path = `/rooms/${encode(roomId)}/state/m.room.power_levels`;
    const levels = await alice.api.ok("GET", path);
    const users = { [alice.userId]: 100, [bob.userId]: 50 };
    await alice.api.ok("PUT", path, {
      ...levels,
      users,
      events: { ...(levels["events"] as object), "m.room.power_levels": 50 },
    });
    const now = await bob.api.ok("GET", path);
    const attempt = (change: object) => bob.api.put(path, { ...now, ...change });
    expect(errcode(await attempt({ users: { ...users, [bob.userId]: 60 } }))).toEqual([403, "M_FORBIDDEN"]);
    expect(errcode(await attempt({ users: { ...users, "@new:x": 51 } }))).toEqual([403, "M_FORBIDDEN"]);
    expect(errcode(await attempt({ users: { ...users, [alice.userId]: 0 } }))).toEqual([403, "M_FORBIDDEN"]);
    expect(errcode(await attempt({ ban: 51 }))).toEqual([403, "M_FORBIDDEN"]);
    expect(
      errcode(await attempt({ events: { ...(now["events"] as object), "m.room.tombstone": 50 } })),
    ).toEqual([403, "M_FORBIDDEN"]);
    expect((await attempt({ users: { ...users, [bob.userId]: 40 } })).status).toBe(200);
  });

  test("a state key that is a user ID belongs to that user", async () => {
    const { alice, bob, roomId } = await pair(server());
    const levels = await alice.api.ok("GET", `/rooms/${encode(roomId)}/state/m.room.power_levels`);
    await setState(alice, roomId, "m.room.power_levels", "", { ...levels, events: { "m.bureau.own": 0 } });
    const path = (user: Person): string =>
      `/rooms/${encode(roomId)}/state/m.bureau.own/${encode(user.userId)}`;
    expect(errcode(await bob.api.put(path(alice), {}))).toEqual([403, "M_FORBIDDEN"]);
    expect(errcode(await alice.api.put(path(bob), {}))).toEqual([403, "M_FORBIDDEN"]);
    expect((await bob.api.put(path(bob), { ok: 1 })).status).toBe(200);
  });
}

function timeline(server: () => Server): void {
  test("a transaction ID makes sending idempotent, for one device and room", async () => {
    const alice = await person(server());
    const [one, two] = [await makeRoom(alice), await makeRoom(alice)];
    const put = async (roomId: string, body: string): Promise<unknown> =>
      (
        await alice.api.ok("PUT", `/rooms/${encode(roomId)}/send/m.room.message/same`, {
          msgtype: "m.text",
          body,
        })
      )["event_id"];
    const first = await put(one, "hello");
    expect(await put(one, "hello")).toBe(first);
    expect(await put(two, "hello")).not.toBe(first);
    const { chunk } = await alice.api.ok("GET", `/rooms/${encode(one)}/messages?dir=b&limit=50`);
    expect(eventsAt(chunk).filter((event) => event.type === "m.room.message")).toHaveLength(1);
  });

  test("messages page backwards and forwards without loss or repetition", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice);
    for (let n = 0; n < 7; n++) await send(alice, roomId, `m${n}`);
    const collect = async (dir: "b" | "f", from?: string): Promise<string[]> => {
      const ids: string[] = [];
      let token = from;
      for (let page = 0; page < 30; page++) {
        const query = new URLSearchParams({
          dir,
          limit: "3",
          ...(token === undefined ? {} : { from: token }),
        });
        const body = await alice.api.ok("GET", `/rooms/${encode(roomId)}/messages?${query}`);
        const chunk = eventsAt(body, "chunk");
        ids.push(...chunk.map((event) => event.event_id));
        if (body["end"] === undefined || chunk.length === 0) return ids;
        token = String(body["end"]);
      }
      throw new Error("paging does not end");
    };
    const backwards = await collect("b");
    const forwards = await collect("f");
    expect(new Set(backwards).size).toBe(backwards.length);
    expect(forwards).toEqual([...backwards].reverse());
    expect(backwards.length).toBeGreaterThanOrEqual(7 + 6);
  });

  test("messages obey a filter of types", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice);
    await send(alice, roomId, "one");
    await setState(alice, roomId, "m.room.topic", "", { topic: "x" });
    const filter = JSON.stringify({ types: ["m.room.mess*"] });
    const body = await alice.api.ok(
      "GET",
      `/rooms/${encode(roomId)}/messages?dir=b&limit=50&filter=${encode(filter)}`,
    );
    expect(bodies(eventsAt(body, "chunk"))).toEqual(["one"]);
  });

  test("an event is readable alone and with its context", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice);
    await send(alice, roomId, "before");
    const eventId = await send(alice, roomId, "middle");
    await send(alice, roomId, "after");
    const event = await alice.api.ok("GET", `/rooms/${encode(roomId)}/event/${encode(eventId)}`);
    expect(event).toMatchObject({
      event_id: eventId,
      room_id: roomId,
      sender: alice.userId,
      type: "m.room.message",
    });
    expect(event["origin_server_ts"]).toBeNumber();
    const context = await alice.api.ok("GET", `/rooms/${encode(roomId)}/context/${encode(eventId)}?limit=2`);
    expect(at(context, "event", "event_id")).toBe(eventId);
    expect(bodies(eventsAt(context, "events_before"))).toEqual(["before"]);
    expect(bodies(eventsAt(context, "events_after"))).toEqual(["after"]);
    expect(errcode(await alice.api.get(`/rooms/${encode(roomId)}/event/%24nothing`))).toEqual([
      404,
      "M_NOT_FOUND",
    ]);
  });

  test("a redaction empties the event and is named in it", async () => {
    const { alice, bob, roomId } = await pair(server());
    const eventId = await send(bob, roomId, "regret");
    const redaction = (
      await alice.api.ok("PUT", `/rooms/${encode(roomId)}/redact/${encode(eventId)}/x1`, { reason: "spam" })
    )["event_id"];
    const event = await bob.api.ok("GET", `/rooms/${encode(roomId)}/event/${encode(eventId)}`);
    expect(event["content"]).toEqual({});
    expect(at(event, "unsigned", "redacted_because", "event_id")).toBe(redaction);
    const topic = await setState(alice, roomId, "m.room.topic", "", { topic: "gone soon" });
    await alice.api.ok("PUT", `/rooms/${encode(roomId)}/redact/${encode(topic)}/x2`, {});
    expect(await bob.api.ok("GET", `/rooms/${encode(roomId)}/state/m.room.topic`)).toEqual({});
  });

  test("a user without the redact level may redact their own event", async () => {
    const { bob, roomId } = await pair(server());
    const eventId = await send(bob, roomId, "mine");
    await bob.api.ok("PUT", `/rooms/${encode(roomId)}/redact/${encode(eventId)}/own`, {});
  });

  test("words are found in the messages of the joined rooms", async () => {
    const { alice, bob, roomId } = await pair(server());
    const eventId = await send(alice, roomId, "a needle in the hay");
    await send(alice, roomId, "only straw");
    const eve = await person(server(), "eve");
    const find = async (who: Person): Promise<unknown[]> => {
      const room_events = { search_term: "needle", keys: ["content.body"] };
      const body = await who.api.ok("POST", "/search", { search_categories: { room_events } });
      const results = at(body, "search_categories", "room_events", "results") as unknown[];
      return results.map((one) => at(one, "result", "event_id"));
    };
    expect(await find(bob)).toEqual([eventId]);
    expect(await find(eve)).toEqual([]);
  });

  test("the event nearest to a time is found", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice);
    const eventId = await send(alice, roomId, "then");
    const event = await alice.api.ok("GET", `/rooms/${encode(roomId)}/event/${encode(eventId)}`);
    const path = `/_matrix/client/v1/rooms/${encode(roomId)}/timestamp_to_event`;
    const ts = Number(event["origin_server_ts"]);
    expect(await alice.api.ok("GET", `${path}?ts=${ts + 60_000}&dir=b`)).toMatchObject({ event_id: eventId });
    expect((await alice.api.get(`${path}?ts=${ts + 60_000}&dir=f`)).status).toBe(404);
  });

  test("a thread's replies are its relations, newest first, in pages", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice);
    const root = await send(alice, roomId, "root");
    const relation = { "m.relates_to": { rel_type: "m.thread", event_id: root } };
    for (let n = 0; n < 3; n++) await send(alice, roomId, `reply ${n}`, relation);
    await send(alice, roomId, "unrelated");
    const base = `/_matrix/client/v1/rooms/${encode(roomId)}/relations/${encode(root)}`;
    const first = await alice.api.ok("GET", `${base}/m.thread?limit=2`);
    expect(bodies(eventsAt(first, "chunk"))).toEqual(["reply 2", "reply 1"]);
    const second = await alice.api.ok(
      "GET",
      `${base}/m.thread?limit=2&from=${encode(String(first["next_batch"]))}`,
    );
    expect(bodies(eventsAt(second, "chunk"))).toEqual(["reply 0"]);
    const oldest = await alice.api.ok("GET", `${base}/m.thread?limit=1&dir=f`);
    expect(bodies(eventsAt(oldest, "chunk"))).toEqual(["reply 0"]);
    expect(eventsAt(await alice.api.ok("GET", `${base}/m.reference`), "chunk")).toEqual([]);
    expect(
      eventsAt(await alice.api.ok("GET", `${base}/m.thread/m.room.message?limit=9`), "chunk"),
    ).toHaveLength(3);
    const event = await alice.api.ok("GET", `/rooms/${encode(roomId)}/event/${encode(root)}`);
    expect(at(event, "unsigned", "m.relations", "m.thread", "count")).toBe(3);
  });

  test("writing the current state again changes nothing", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice);
    const first = await setState(alice, roomId, "m.bureau.thing", "k", { a: 1, b: [1] });
    expect(await setState(alice, roomId, "m.bureau.thing", "k", { b: [1], a: 1 })).toBe(first);
    expect(await setState(alice, roomId, "m.bureau.thing", "k", { a: 2 })).not.toBe(first);
  });
}

function sync(server: () => Server): void {
  test("the first sync returns complete joined rooms, and invites with stripped state", async () => {
    const { alice, bob, roomId } = await pair(server());
    const invited = await makeRoom(alice, { name: "Come in", invite: [bob.userId] });
    const body = await syncOnce(bob);
    const joined = at(body, "rooms", "join", roomId);
    const types = [...eventsAt(joined, "state", "events"), ...eventsAt(joined, "timeline", "events")].map(
      (event) => event.type,
    );
    expect(types).toContain("m.room.create");
    expect(types).toContain("m.room.power_levels");
    expect(at(joined, "timeline", "prev_batch")).toBeString();
    const stripped = eventsAt(body, "rooms", "invite", invited, "invite_state", "events");
    expect(stripped.find((event) => event.type === "m.room.name")?.content).toEqual({ name: "Come in" });
    expect(
      stripped.find((event) => event.type === "m.room.member" && event.state_key === bob.userId)?.content,
    ).toMatchObject({ membership: "invite" });
    expect(body["next_batch"]).toBeString();
  });

  test("an incremental sync returns new events once", async () => {
    const { alice, bob, roomId } = await pair(server());
    const since = String((await syncOnce(bob))["next_batch"]);
    await send(alice, roomId, "news");
    await setState(alice, roomId, "m.room.topic", "", { topic: "t" });
    const news = await syncUntil(
      bob,
      since,
      (body) => eventsAt(body, "rooms", "join", roomId, "timeline", "events").length >= 2,
    );
    const events = eventsAt(news, "rooms", "join", roomId, "timeline", "events");
    expect(events.map((event) => event.type)).toEqual(["m.room.message", "m.room.topic"]);
    expect(eventsAt(news, "rooms", "join", roomId, "state", "events")).toEqual([]);
    const after = await syncOnce(bob, { since: String(news["next_batch"]) });
    expect(at(after, "rooms", "join", roomId, "timeline", "events") ?? []).toEqual([]);
  });

  test("a long poll waits and returns for an event", async () => {
    const { alice, bob, roomId } = await pair(server());
    const since = String((await syncOnce(bob))["next_batch"]);
    const waiting = syncUntil(bob, since, (body) => at(body, "rooms", "join", roomId) !== undefined);
    await send(alice, roomId, "wake up");
    expect(bodies(eventsAt(await waiting, "rooms", "join", roomId, "timeline", "events"))).toEqual([
      "wake up",
    ]);
  });

  test("a gap is limited: the state shows its changes, and prev_batch points into it", async () => {
    const { alice, bob, roomId } = await pair(server());
    const since = String((await syncOnce(bob))["next_batch"]);
    await setState(alice, roomId, "m.bureau.thing", "k", { n: 1 });
    for (let n = 0; n < 8; n++) await send(alice, roomId, `gap ${n}`);
    const filter = JSON.stringify({ room: { timeline: { limit: 3 } } });
    const body = await syncOnce(bob, { since, filter });
    const room = at(body, "rooms", "join", roomId);
    expect(at(room, "timeline", "limited")).toBe(true);
    expect(bodies(eventsAt(room, "timeline", "events"))).toEqual(["gap 5", "gap 6", "gap 7"]);
    const state = eventsAt(room, "state", "events");
    expect(state.map((event) => [event.type, event.content])).toEqual([["m.bureau.thing", { n: 1 }]]);
    const prev = String(at(room, "timeline", "prev_batch"));
    const older = await bob.api.ok(
      "GET",
      `/rooms/${encode(roomId)}/messages?dir=b&limit=2&from=${encode(prev)}`,
    );
    expect(bodies(eventsAt(older, "chunk"))).toEqual(["gap 4", "gap 3"]);
  });

  test("state before a full timeline is the state at its start", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice);
    await setState(alice, roomId, "m.bureau.thing", "k", { n: 1 });
    await send(alice, roomId, "x");
    await setState(alice, roomId, "m.bureau.thing", "k", { n: 2 });
    const filter = JSON.stringify({ room: { timeline: { limit: 2 } } });
    const room = at(await syncOnce(alice, { filter }), "rooms", "join", roomId);
    const thing = (events: ReturnType<typeof eventsAt>): unknown =>
      events.find((event) => event.type === "m.bureau.thing")?.content;
    expect(thing(eventsAt(room, "state", "events"))).toEqual({ n: 1 });
    expect(thing(eventsAt(room, "timeline", "events"))).toEqual({ n: 2 });
    expect(at(room, "timeline", "limited")).toBe(true);
  });

  test("filters select rooms and types; an empty list of types selects nothing", async () => {
    const { alice, bob, roomId } = await pair(server());
    const other = await makeRoom(alice, { invite: [bob.userId] });
    await join(bob, other);
    await send(alice, roomId, "seen");
    await setState(alice, roomId, "m.bureau.status", "a", { n: 1 });
    await setState(alice, roomId, "m.bureau.secret", "a", { n: 1 });
    const none = { types: [] };
    const filter = {
      room: {
        not_rooms: [other],
        state: { types: ["m.bureau.status"] },
        timeline: { types: ["m.room.message"], limit: 50 },
        ephemeral: none,
        account_data: none,
      },
      presence: none,
      account_data: none,
    };
    const body = await syncOnce(bob, { filter: JSON.stringify(filter) });
    expect(Object.keys((at(body, "rooms", "join") ?? {}) as object)).toEqual([roomId]);
    const room = at(body, "rooms", "join", roomId);
    expect(bodies(eventsAt(room, "timeline", "events"))).toEqual(["seen"]);
    expect(
      eventsAt(room, "state", "events")
        .map((event) => event.type)
        .filter((type) => type !== "m.bureau.status"),
    ).toEqual([]);
    expect(at(body, "account_data", "events") ?? []).toEqual([]);
    expect(at(body, "presence", "events") ?? []).toEqual([]);
    const stored = await bob.api.ok("POST", `/user/${encode(bob.userId)}/filter`, filter);
    const id = String(stored["filter_id"]);
    expect(await bob.api.ok("GET", `/user/${encode(bob.userId)}/filter/${id}`)).toEqual(filter);
    const again = await syncOnce(bob, { filter: id });
    expect(Object.keys((at(again, "rooms", "join") ?? {}) as object)).toEqual([roomId]);
  });

  test("a newly joined room comes with its whole state", async () => {
    const [alice, bob] = [await person(server()), await person(server())];
    const since = String((await syncOnce(bob))["next_batch"]);
    const roomId = await makeRoom(alice, { name: "Late", invite: [bob.userId] });
    const invited = await syncUntil(bob, since, (body) => at(body, "rooms", "invite", roomId) !== undefined);
    await join(bob, roomId);
    const joined = await syncUntil(
      bob,
      String(invited["next_batch"]),
      (body) => at(body, "rooms", "join", roomId) !== undefined,
    );
    const room = at(joined, "rooms", "join", roomId);
    const types = [...eventsAt(room, "state", "events"), ...eventsAt(room, "timeline", "events")].map(
      (event) => event.type,
    );
    for (const type of ["m.room.create", "m.room.power_levels", "m.room.name", "m.room.member"])
      expect(types).toContain(type);
    expect(at(joined, "rooms", "invite", roomId)).toBeUndefined();
  });

  test("a kick gives a leave entry once, with the kick in its timeline", async () => {
    const { alice, bob, roomId } = await pair(server());
    const since = String((await syncOnce(bob))["next_batch"]);
    await alice.api.ok("POST", `/rooms/${encode(roomId)}/kick`, { user_id: bob.userId });
    await send(alice, roomId, "behind the door");
    const body = await syncUntil(bob, since, (one) => at(one, "rooms", "leave", roomId) !== undefined);
    const events = eventsAt(body, "rooms", "leave", roomId, "timeline", "events");
    expect(events.at(-1)).toMatchObject({
      type: "m.room.member",
      state_key: bob.userId,
      content: { membership: "leave" },
    });
    expect(bodies(events)).not.toContain("behind the door");
    const next = await syncOnce(bob, { since: String(body["next_batch"]) });
    expect(at(next, "rooms", "leave", roomId)).toBeUndefined();
    expect(
      at(
        await syncOnce(bob, { filter: JSON.stringify({ room: { include_leave: true } }) }),
        "rooms",
        "leave",
        roomId,
      ),
    ).toBeDefined();
  });

  test("a rejected invite becomes a leave without room data", async () => {
    const [alice, bob] = [await person(server()), await person(server())];
    const roomId = await makeRoom(alice, { topic: "secret topic", invite: [bob.userId] });
    const since = String((await syncOnce(bob))["next_batch"]);
    await bob.api.ok("POST", `/rooms/${encode(roomId)}/leave`, {});
    const body = await syncUntil(bob, since, (one) => at(one, "rooms", "leave", roomId) !== undefined);
    expect(JSON.stringify(body)).not.toContain("secret topic");
  });

  test("an invite refused after leaving shows no later events", async () => {
    const { alice, bob, roomId } = await pair(server());
    await bob.api.ok("POST", `/rooms/${encode(roomId)}/leave`, {});
    await setState(alice, roomId, "m.room.topic", "", { topic: "secret topic" });
    await invite(alice, roomId, bob);
    const since = String((await syncOnce(bob))["next_batch"]);
    await bob.api.ok("POST", `/rooms/${encode(roomId)}/leave`, {});
    const body = await syncUntil(bob, since, (one) => at(one, "rooms", "leave", roomId) !== undefined);
    expect(JSON.stringify(body)).not.toContain("secret topic");
  });

  test("full_state returns the state again", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice, { name: "Whole" });
    const since = String((await syncOnce(alice))["next_batch"]);
    const body = await syncOnce(alice, { since, full_state: "true" });
    const types = eventsAt(body, "rooms", "join", roomId, "state", "events").map((event) => event.type);
    expect(types).toContain("m.room.name");
    expect(types).toContain("m.room.create");
  });

  test("the sender's device sees its transaction ID, others do not", async () => {
    const { alice, bob, roomId } = await pair(server());
    const [mine, theirs] = [
      String((await syncOnce(alice))["next_batch"]),
      String((await syncOnce(bob))["next_batch"]),
    ];
    await alice.api.ok("PUT", `/rooms/${encode(roomId)}/send/m.room.message/my-txn`, {
      msgtype: "m.text",
      body: "x",
    });
    const has = (body: unknown): boolean =>
      eventsAt(body, "rooms", "join", roomId, "timeline", "events").length > 0;
    const seenByAlice = await syncUntil(alice, mine, has);
    const seenByBob = await syncUntil(bob, theirs, has);
    expect(
      at(seenByAlice, "rooms", "join", roomId, "timeline", "events", 0, "unsigned", "transaction_id"),
    ).toBe("my-txn");
    expect(
      at(seenByBob, "rooms", "join", roomId, "timeline", "events", 0, "unsigned", "transaction_id"),
    ).toBeUndefined();
  });

  test("a state event names the event it replaced", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice);
    const first = await setState(alice, roomId, "m.bureau.thing", "", { n: 1 });
    const since = String((await syncOnce(alice))["next_batch"]);
    await setState(alice, roomId, "m.bureau.thing", "", { n: 2 });
    const body = await syncUntil(alice, since, (one) => at(one, "rooms", "join", roomId) !== undefined);
    const event = eventsAt(body, "rooms", "join", roomId, "timeline", "events")[0];
    expect(event?.unsigned).toMatchObject({ prev_content: { n: 1 }, replaces_state: first });
  });

  test("history before joining is hidden where visibility is joined", async () => {
    const [alice, bob] = [await person(server()), await person(server())];
    const roomId = await makeRoom(alice, {
      initial_state: [{ type: "m.room.history_visibility", content: { history_visibility: "joined" } }],
    });
    await send(alice, roomId, "early");
    await invite(alice, roomId, bob);
    await join(bob, roomId);
    await send(alice, roomId, "late");
    const { chunk } = await bob.api.ok("GET", `/rooms/${encode(roomId)}/messages?dir=b&limit=50`);
    expect(bodies(eventsAt(chunk))).toContain("late");
    expect(bodies(eventsAt(chunk))).not.toContain("early");
    const room = at(await syncOnce(bob), "rooms", "join", roomId);
    expect(bodies(eventsAt(room, "timeline", "events"))).not.toContain("early");
  });

  test("a device that logs out during a long poll gets an error", async () => {
    const { bob } = await pair(server());
    const since = String((await syncOnce(bob))["next_batch"]);
    await bob.api.ok("POST", "/logout", {});
    expect(errcode(await bob.api.get(`/sync?since=${encode(since)}&timeout=1000`))).toEqual([
      401,
      "M_UNKNOWN_TOKEN",
    ]);
  });
}

function userData(server: () => Server): void {
  test("account data is kept, global and by room, and syncs", async () => {
    const alice = await person(server());
    const bob = await person(server());
    const roomId = await makeRoom(alice);
    const since = String((await syncOnce(alice))["next_batch"]);
    const base = `/user/${encode(alice.userId)}`;
    await alice.api.ok("PUT", `${base}/account_data/org.bureau.test`, { a: 1 });
    await alice.api.ok("PUT", `${base}/rooms/${encode(roomId)}/account_data/org.bureau.test`, { b: 2 });
    expect(await alice.api.ok("GET", `${base}/account_data/org.bureau.test`)).toEqual({ a: 1 });
    expect(await alice.api.ok("GET", `${base}/rooms/${encode(roomId)}/account_data/org.bureau.test`)).toEqual(
      { b: 2 },
    );
    expect(errcode(await alice.api.get(`${base}/account_data/none`))).toEqual([404, "M_NOT_FOUND"]);
    expect(errcode(await bob.api.get(`${base}/account_data/org.bureau.test`))).toEqual([403, "M_FORBIDDEN"]);
    const body = await syncOnce(alice, { since });
    expect(eventsAt(body, "account_data", "events").map((e) => [e.type, e.content])).toContainEqual([
      "org.bureau.test",
      { a: 1 },
    ]);
    expect(
      eventsAt(body, "rooms", "join", roomId, "account_data", "events").map((e) => e.content),
    ).toContainEqual({ b: 2 });
  });

  test("receipts and typing reach the others in a room", async () => {
    const { alice, bob, roomId } = await pair(server());
    const eventId = await send(bob, roomId, "read me");
    const since = String((await syncOnce(bob))["next_batch"]);
    await alice.api.ok("POST", `/rooms/${encode(roomId)}/receipt/m.read/${encode(eventId)}`, {});
    await alice.api.ok("PUT", `/rooms/${encode(roomId)}/typing/${encode(alice.userId)}`, {
      typing: true,
      timeout: 20_000,
    });
    const seen = new Map<string, unknown>();
    await syncUntil(bob, since, (body) => {
      for (const event of eventsAt(body, "rooms", "join", roomId, "ephemeral", "events"))
        seen.set(event.type, event.content);
      return seen.has("m.receipt") && seen.has("m.typing");
    });
    expect(at(seen.get("m.receipt"), eventId, "m.read", alice.userId, "ts")).toBeNumber();
    expect(seen.get("m.typing")).toEqual({ user_ids: [alice.userId] });
  });

  test("users in the same room read each other's presence", async () => {
    const { alice, bob } = await pair(server());
    await alice.api.ok("PUT", `/presence/${encode(alice.userId)}/status`, {
      presence: "unavailable",
      status_msg: "shutting down",
    });
    expect(await bob.api.ok("GET", `/presence/${encode(alice.userId)}/status`)).toMatchObject({
      presence: "unavailable",
      status_msg: "shutting down",
    });
    expect(
      errcode(await bob.api.put(`/presence/${encode(alice.userId)}/status`, { presence: "online" })),
    ).toEqual([403, "M_FORBIDDEN"]);
  });

  test("push rules exist for clients that require them", async () => {
    const alice = await person(server());
    const rules = await alice.api.ok("GET", "/pushrules/");
    for (const kind of ["override", "underride", "content", "room", "sender"])
      expect(at(rules, "global", kind)).toBeArray();
  });

  test("a message to a device arrives once", async () => {
    const { alice, bob } = await pair(server());
    const since = String((await syncOnce(bob))["next_batch"]);
    const body = { messages: { [bob.userId]: { [bob.deviceId]: { hello: "device" } } } };
    await alice.api.ok("PUT", "/sendToDevice/org.bureau.test/dt1", body);
    await alice.api.ok("PUT", "/sendToDevice/org.bureau.test/dt1", body);
    const got = await syncUntil(bob, since, (one) => eventsAt(one, "to_device", "events").length > 0);
    expect(eventsAt(got, "to_device", "events")).toEqual([
      { type: "org.bureau.test", sender: alice.userId, content: { hello: "device" } } as never,
    ]);
    const next = await syncOnce(bob, { since: String(got["next_batch"]) });
    expect(eventsAt(next, "to_device", "events")).toEqual([]);
  });

  test("keys can be uploaded, queried and claimed", async () => {
    const { alice, bob } = await pair(server());
    const device_keys = {
      user_id: bob.userId,
      device_id: bob.deviceId,
      algorithms: [],
      keys: {},
      signatures: {},
    };
    const counts = await bob.api.ok("POST", "/keys/upload", {
      device_keys,
      one_time_keys: { "signed_curve25519:AAAA": { key: "k", signatures: {} } },
    });
    expect(at(counts, "one_time_key_counts", "signed_curve25519")).toBe(1);
    const found = await alice.api.ok("POST", "/keys/query", { device_keys: { [bob.userId]: [] } });
    expect(at(found, "device_keys", bob.userId, bob.deviceId)).toMatchObject({ device_id: bob.deviceId });
    const request = { one_time_keys: { [bob.userId]: { [bob.deviceId]: "signed_curve25519" } } };
    const claimed = await alice.api.ok("POST", "/keys/claim", request);
    expect(at(claimed, "one_time_keys", bob.userId, bob.deviceId, "signed_curve25519:AAAA", "key")).toBe("k");
    expect((await alice.api.get("/room_keys/version")).status).toBe(404);
  });
}

function malformed(server: () => Server): void {
  test("invalid JSON, a non-object and a missing key have different errors", async () => {
    const alice = await person(server());
    const post = async (body: string): Promise<[number, unknown]> => {
      const response = await alice.api.raw("POST", "/createRoom", body);
      return [response.status, at(await response.json(), "errcode")];
    };
    expect(await post("{not json")).toEqual([400, "M_NOT_JSON"]);
    expect((await post("[1]"))[0]).toBe(400);
    const roomId = await makeRoom(alice);
    expect(errcode(await alice.api.post(`/rooms/${encode(roomId)}/invite`, {}))).toEqual([
      400,
      "M_MISSING_PARAM",
    ]);
  });

  test("fractions are not canonical JSON", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice);
    const answer = await alice.api.put(`/rooms/${encode(roomId)}/state/m.bureau.thing`, { n: 1.5 });
    expect(errcode(answer)).toEqual([400, "M_BAD_JSON"]);
    const big = await alice.api.raw(
      "PUT",
      `/rooms/${encode(roomId)}/state/m.bureau.thing`,
      '{"n": 9007199254740993}',
    );
    expect(big.status).toBe(400);
  });

  test("an event above 64 KiB is too large", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice);
    const path = `/rooms/${encode(roomId)}/state/m.bureau.thing`;
    expect(errcode(await alice.api.put(path, { text: "x".repeat(66_000) }))).toEqual([413, "M_TOO_LARGE"]);
    expect((await alice.api.put(path, { text: "x".repeat(60_000) })).status).toBe(200);
  });

  test("power levels must be integers, memberships must be known", async () => {
    const alice = await person(server());
    const roomId = await makeRoom(alice);
    const levels = await alice.api.ok("GET", `/rooms/${encode(roomId)}/state/m.room.power_levels`);
    expect(
      (await alice.api.put(`/rooms/${encode(roomId)}/state/m.room.power_levels`, { ...levels, ban: "50" }))
        .status,
    ).toBeOneOf([400, 403]);
    const member = `/rooms/${encode(roomId)}/state/m.room.member/${encode(alice.userId)}`;
    expect((await alice.api.put(member, { membership: "sitting" })).status).toBe(400);
  });

  test("unknown endpoints and wrong methods are unrecognized", async () => {
    const alice = await person(server());
    expect(errcode(await alice.api.get("/no/such/thing"))).toEqual([404, "M_UNRECOGNIZED"]);
    expect(errcode(await alice.api.delete("/createRoom"))).toEqual([405, "M_UNRECOGNIZED"]);
  });

  test("browsers have access", async () => {
    const response = await new Caller(server().url).raw("OPTIONS", "/sync");
    expect(response.status).toBeOneOf([200, 204]);
    expect(response.headers.get("access-control-allow-origin")).toBe("*");
    const plain = await new Caller(server().url).raw("GET", "/account/whoami");
    expect(plain.headers.get("access-control-allow-origin")).toBe("*");
  });

  test("a since token from elsewhere is refused", async () => {
    const alice = await person(server());
    expect((await alice.api.get("/sync?since=nonsense&timeout=0")).status).toBe(400);
  });
}
