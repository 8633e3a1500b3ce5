import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Homeserver, startHomeserver } from "@bureau/homeserver/homeserver";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { silentLog } from "@bureau/kit/log";
import { Secret } from "@bureau/kit/secret";
import { parseRoomAlias, parseRoomId, type UserId } from "@bureau/schema/refs";
import { login, registerWithToken, serverVersions } from "./auth.ts";
import { isRevoked, isTransient, MatrixError } from "./matrix-error.ts";
import { changePowerLevels } from "./power-levels.ts";
import { RoomStateStore } from "./room-state.ts";
import { MatrixSession } from "./session.ts";
import {
  readMachineSession,
  readOperatorSession,
  writeMachineSession,
  writeOperatorSession,
} from "./session-file.ts";
import { runSyncLoop } from "./sync-loop.ts";
import { parseSyncResponse, type SyncResponse } from "./sync-response.ts";

const REGISTRATION = "registration-token-of-the-test";
let folder: string;
let homeserver: Homeserver;
beforeAll(async () => {
  folder = mkdtempSync("/tmp/bm-");
  homeserver = await startHomeserver(
    {
      dataDir: join(folder, "hs"),
      serverName: "bureau.test",
      listen: { kind: "tcp", hostname: "127.0.0.1", port: 0 },
      registrationToken: new Secret(REGISTRATION),
    },
    { log: silentLog, clock: systemClock },
  );
});
afterAll(async () => {
  await homeserver[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

let people = 0;
async function person(password = "a password"): Promise<MatrixSession> {
  const username = `person${++people}`;
  const made = await registerWithToken({
    homeserver: homeserver.url,
    username,
    password,
    registrationToken: REGISTRATION,
  });
  if (made.inUse) throw new Error("the name is taken");
  return new MatrixSession({ homeserver: homeserver.url, userId: made.userId, token: made.token });
}

async function refusal(call: Promise<unknown>): Promise<MatrixError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof MatrixError) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

describe("accounts", () => {
  test("a server says what it speaks", async () => {
    expect(await serverVersions({ homeserver: homeserver.url })).toContain("v1.11");
  });

  test("who registered is logged in, and a second registration says the name is in use", async () => {
    const options = {
      homeserver: homeserver.url,
      username: "twice",
      password: "p",
      registrationToken: REGISTRATION,
    };
    const first = await registerWithToken(options);
    expect(first).toMatchObject({ inUse: false, userId: "@twice:bureau.test" });
    expect(await registerWithToken(options)).toEqual({ inUse: true });
    const again = await login({ homeserver: homeserver.url, user: "twice", password: "p" });
    const session = new MatrixSession({ homeserver: homeserver.url, ...again });
    expect((await session.whoami()).userId).toBe(again.userId);
  });

  test("a wrong registration token registers nobody", async () => {
    const error = await refusal(
      registerWithToken({
        homeserver: homeserver.url,
        username: "intruder",
        password: "p",
        registrationToken: "guess",
      }),
    );
    expect(["unauthorized", "forbidden"]).toContain(error.code);
    expect(error.message).not.toContain("guess");
  });

  test("a wrong password is forbidden", async () => {
    const { userId } = await person();
    const error = await refusal(login({ homeserver: homeserver.url, user: userId, password: "wrong" }));
    expect(error.code).toBe("forbidden");
  });

  test("a changed password is the only one that logs in", async () => {
    const session = await person("old");
    await session.changePassword("old", "new", true);
    expect((await session.whoami()).userId).toBe(session.userId);
    const where = { homeserver: homeserver.url, user: session.userId };
    expect((await refusal(login({ ...where, password: "old" }))).code).toBe("forbidden");
    expect((await login({ ...where, password: "new" })).userId).toBe(session.userId);
  });

  test("a token that was logged out is revoked, not merely refused", async () => {
    const session = await person();
    await session.logout();
    const error = await refusal(session.whoami());
    expect(error.code).toBe("unauthorized");
    expect(isRevoked(error)).toBe(true);
    expect(isTransient(error)).toBe(false);
  });

  test("a deactivated account can do nothing more", async () => {
    const session = await person("mine");
    await session.deactivate("mine");
    expect(isRevoked(await refusal(session.whoami()))).toBe(true);
  });
});

describe("rooms", () => {
  test("an alias is found, a missing one is undefined", async () => {
    const session = await person();
    const room = await session.createRoom({ room_alias_name: "some/room", preset: "private_chat" });
    expect(await session.resolveAlias(parseRoomAlias("#some/room:bureau.test"))).toBe(room);
    expect(await session.resolveAlias(parseRoomAlias("#no/room:bureau.test"))).toBeUndefined();
  });

  test("state is put and read; a key with slashes is one key; what is missing is undefined", async () => {
    const session = await person();
    const room = await session.createRoom({ preset: "private_chat" });
    await session.putState(room, "m.bureau.test", "a/b:c", { value: 1 });
    expect(await session.getState(room, "m.bureau.test", "a/b:c")).toEqual({ value: 1 });
    expect(await session.getState(room, "m.bureau.test", "other")).toBeUndefined();
    expect((await session.getRoomState(room)).find(({ type }) => type === "m.bureau.test")).toMatchObject({
      stateKey: "a/b:c",
      content: { value: 1 },
      sender: session.userId,
    });
  });

  test("who was invited joins, sees the members and can be removed again", async () => {
    const [owner, guest] = [await person(), await person()];
    const room = await owner.createRoom({ preset: "private_chat" });
    expect((await refusal(guest.joinRoom(room))).code).toBe("forbidden");
    await owner.inviteUser(room, guest.userId);
    await guest.joinRoom(room);
    expect((await owner.joinedMembers(room)).sort()).toEqual([owner.userId, guest.userId].sort());
    expect(await guest.joinedRooms()).toEqual([room]);
    await owner.kickUser(room, guest.userId, "enough");
    expect(await guest.joinedRooms()).toEqual([]);
  });

  test("a message sent twice with one transaction ID is one event", async () => {
    const session = await person();
    const room = await session.createRoom({ preset: "private_chat" });
    const content = { msgtype: "m.text", body: "once" };
    const first = await session.sendMessage(room, content, { txnId: "t1" });
    expect(await session.sendMessage(room, content, { txnId: "t1" })).toBe(first);
    const { chunk } = await session.messages(room);
    expect(chunk.filter(({ type }) => type === "m.room.message")).toHaveLength(1);
  });

  test("power levels are changed without losing the others", async () => {
    const session = await person();
    const room = await session.createRoom({
      preset: "private_chat",
      power_level_content_override: { notifications: { room: 77 }, events: { "m.bureau.a": 5 } },
    });
    await changePowerLevels(
      session,
      room,
      { users: { "@other:bureau.test": 50 }, events: { "m.bureau.b": 6 } },
      { clock: systemClock },
    );
    expect(await session.getState(room, "m.room.power_levels", "")).toMatchObject({
      notifications: { room: 77 },
      events: { "m.bureau.a": 5, "m.bureau.b": 6 },
      users: { "@other:bureau.test": 50 },
    });
  });
});

/** Runs a sync loop until `until` is true of what it has taken in. */
async function syncUntil(
  session: MatrixSession,
  store: RoomStateStore,
  until: (response: SyncResponse) => boolean,
  clock: Clock = systemClock,
): Promise<void> {
  const stop = new AbortController();
  await runSyncLoop({
    session,
    clock,
    signal: stop.signal,
    onSync(response) {
      store.apply(response);
      if (until(response)) stop.abort();
    },
  });
}

describe("sync", () => {
  test("room state follows what others do, and leaving forgets the room", async () => {
    const [owner, reader] = [await person(), await person()];
    const room = await owner.createRoom({ preset: "private_chat", invite: [reader.userId] });
    await owner.putState(room, "m.bureau.test", "", { value: 1 });
    await reader.joinRoom(room);
    const store = new RoomStateStore();
    const value = () => store.room(room)?.get("m.bureau.test", "")?.content["value"];
    let step = 0;
    await syncUntil(reader, store, () => {
      if (step === 0 && value() === 1) {
        step = 1;
        void owner.putState(room, "m.bureau.test", "", { value: 2 });
      } else if (step === 1 && value() === 2) {
        step = 2;
        void owner.kickUser(room, reader.userId);
      }
      return step === 2 && store.room(room) === undefined;
    });
    expect(store.joinedRooms()).toEqual([]);
  });

  test("state that was redacted says nothing any more", () => {
    const store = new RoomStateStore();
    const room = parseRoomId("!room:bureau.test");
    const sync = (join: object): void => {
      store.apply(parseSyncResponse({ next_batch: "s", rooms: { join: { [room]: join } } }));
    };
    const secret = { type: "m.bureau.test", state_key: "", content: { value: 1 }, event_id: "$1" };
    sync({ state: { events: [secret] } });
    for (const redaction of [{ redacts: "$1", content: {} }, { content: { redacts: "$1" } }]) {
      sync({ timeline: { events: [secret] } });
      sync({ timeline: { events: [{ type: "m.room.redaction", event_id: "$2", ...redaction }] } });
      expect(store.room(room)?.get("m.bureau.test", "")?.content).toEqual({});
    }
  });

  test("an event that is not one is dropped, and the others are not", () => {
    const good = { type: "a", state_key: "", content: {}, event_id: "$1" };
    const join = { "!r:s": { state: { events: [{ type: 5 }, "x", good] }, timeline: { events: [null] } } };
    const { joined } = parseSyncResponse({ next_batch: "s", rooms: { join } });
    expect(joined.get(parseRoomId("!r:s"))?.state.map(({ type }) => type)).toEqual(["a"]);
  });

  test("an invitation is delivered with the rooms we are invited to", async () => {
    const [owner, guest] = [await person(), await person()];
    const room = await owner.createRoom({ preset: "private_chat", invite: [guest.userId] });
    const seen: string[] = [];
    await syncUntil(guest, new RoomStateStore(), ({ invited }) => {
      seen.push(...invited.keys());
      return true;
    });
    expect(seen).toEqual([room]);
  });

  test("a revoked session ends the loop as unauthorized", async () => {
    const session = await person();
    await session.logout();
    const running = syncUntil(session, new RoomStateStore(), () => false);
    await expect(running).rejects.toMatchObject({ code: "unauthorized" });
  });

  test("a homeserver that is away is waited for with growing pauses, and its return is told", async () => {
    const session = await person();
    let failures = 3;
    const away = new MatrixError("unavailable", "away");
    const pauses: number[] = [];
    const transitions: boolean[] = [];
    const stop = new AbortController();
    await runSyncLoop({
      session: { sync: (options) => (failures-- > 0 ? Promise.reject(away) : session.sync(options)) },
      clock: {
        ...systemClock,
        sleep: (ms) => {
          pauses.push(ms);
          return Promise.resolve();
        },
      },
      random: () => 1,
      signal: stop.signal,
      onConnection: (connected) => void transitions.push(connected),
      onSync: () => stop.abort(),
    });
    expect(pauses).toEqual([1_000, 2_000, 4_000]);
    expect(transitions).toEqual([false, true]);
  });

  test("a 429 says how long to stay away", async () => {
    const session = await person();
    let refused = false;
    const pauses: number[] = [];
    const stop = new AbortController();
    const limited = new MatrixError("unavailable", "slow down", { status: 429, retryAfterMs: 7_777 });
    await runSyncLoop({
      session: {
        sync(options) {
          if (refused) return session.sync(options);
          refused = true;
          return Promise.reject(limited);
        },
      },
      clock: {
        ...systemClock,
        sleep: (ms) => {
          pauses.push(ms);
          return Promise.resolve();
        },
      },
      signal: stop.signal,
      onSync: () => stop.abort(),
    });
    expect(pauses).toEqual([7_777]);
  });
});

describe("failures", () => {
  const nobody: UserId = "@nobody:bureau.test" as UserId;
  const against = async (answer: () => Response): Promise<MatrixError> => {
    await using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: answer });
    const session = new MatrixSession({ homeserver: server.url.href, userId: nobody, token: "secret-token" });
    return await refusal(session.joinRoom(parseRoomId("!room:bureau.test")));
  };

  test("nobody listening is transient", async () => {
    const session = new MatrixSession({
      homeserver: "http://127.0.0.1:1",
      userId: nobody,
      token: "secret-token",
    });
    const error = await refusal(session.whoami());
    expect(error).toMatchObject({ code: "unavailable", status: 0 });
    expect(isTransient(error)).toBe(true);
    expect(error.message).not.toContain("secret-token");
  });

  test("an error page of a proxy in front is transient", async () => {
    const error = await against(() => new Response("<html>bad gateway</html>", { status: 502 }));
    expect(error).toMatchObject({ code: "unavailable", status: 502, errcode: "" });
  });

  test("a limit carries its time, from the header before the field", async () => {
    const body = { errcode: "M_LIMIT_EXCEEDED", retry_after_ms: 1_500 };
    expect((await against(() => Response.json(body, { status: 429 }))).retryAfterMs).toBe(1_500);
    const headers = { "retry-after": "3" };
    expect((await against(() => Response.json(body, { status: 429, headers }))).retryAfterMs).toBe(3_000);
  });

  test("a success that is not JSON is a failure that no retry helps", async () => {
    const error = await against(() => new Response("hello"));
    expect(error.code).toBe("failed");
    expect(isTransient(error)).toBe(false);
  });

  test("a redirect is not followed with the token", async () => {
    let asked = 0;
    await using thief = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: () => {
        asked++;
        return Response.json({ room_id: "!x:y" });
      },
    });
    await against(() => Response.redirect(thief.url.href, 307));
    expect(asked).toBe(0);
  });
});

test("session files hold what was written, for their owner only", () => {
  const session = { homeserver: "http://127.0.0.1:6167", userId: "@a:b" as UserId, token: "t" };
  const machine = join(folder, "machine.json");
  writeMachineSession(machine, session);
  expect(readMachineSession(machine)).toEqual(session);
  expect(statSync(machine).mode & 0o777).toBe(0o600);
  const operator = join(folder, "operator.json");
  writeOperatorSession(operator, session);
  expect(readOperatorSession(operator)).toEqual(session);
  expect(() => readMachineSession(operator)).toThrow("homeserver_url");
  expect(() => readMachineSession(join(folder, "none.json"))).toThrow("There is no session");
});
