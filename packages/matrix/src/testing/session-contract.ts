/**
 * What the Matrix client requires of a homeserver, as tests against the embedded homeserver and a real Synapse.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { systemClock } from "@bureau/kit/clock";
import { egressFetch } from "@bureau/os/egress";
import { parseRoomAlias, parseUserId } from "@bureau/schema/refs";
import { login, registerWithToken, serverVersions } from "../auth.ts";
import { editMachineInfo, type MachineInfoChange } from "../machine-info.ts";
import { isRevoked, isTransient, MatrixError } from "../matrix-error.ts";
import { changePowerLevels } from "../power-levels.ts";
import { RoomStateStore } from "../room-state.ts";
import { MatrixSession } from "../session.ts";
import { runSyncLoop } from "../sync-loop.ts";
import type { SyncResponse } from "../sync-response.ts";

/** What the tests require of a homeserver. */
export type SessionHomeserver = AsyncDisposable & {
  readonly url: string;
  readonly serverName: string;
  readonly registrationToken: string;
};

/** Set while the tests of {@link defineSession} run. */
let homeserver: SessionHomeserver;

/** Defines the tests against what `start` starts. Starting may take as long as a cold Synapse does. */
export function defineSession(name: string, start: () => Promise<SessionHomeserver>): void {
  setDefaultTimeout(120_000);
  describe(name, () => {
    beforeAll(async () => {
      homeserver = await start();
    });
    afterAll(async () => {
      await homeserver[Symbol.asyncDispose]();
    });
    describe("accounts", defineAccounts);
    describe("rooms", defineRooms);
    describe("sync", defineSync);
  });
}

let people = 0;
async function person(password = "a password"): Promise<MatrixSession> {
  const username = `person${++people}`;
  const { registrationToken } = homeserver;
  const made = await registerWithToken({
    fetch: egressFetch,
    homeserver: homeserver.url,
    username,
    password,
    registrationToken,
  });
  if (made.inUse) throw new Error("the name is taken");
  return new MatrixSession({
    fetch: egressFetch,
    homeserver: homeserver.url,
    userId: made.userId,
    token: made.token,
  });
}

/** The error of a refused request; fails when the request succeeds. */
export async function refusal(call: Promise<unknown>): Promise<MatrixError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof MatrixError) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

function defineAccounts(): void {
  test("a server reports its versions", async () => {
    expect(await serverVersions({ fetch: egressFetch, homeserver: homeserver.url })).toContain("v1.11");
  });

  test("registration opens a session, and a second one reports that the name is in use", async () => {
    const options = {
      homeserver: homeserver.url,
      fetch: egressFetch,
      username: "twice",
      password: "p",
      registrationToken: homeserver.registrationToken,
    };
    const first = await registerWithToken(options);
    expect(first).toMatchObject({ inUse: false, userId: `@twice:${homeserver.serverName}` });
    expect(await registerWithToken(options)).toEqual({ inUse: true });
    const again = await login({
      fetch: egressFetch,
      homeserver: homeserver.url,
      user: "twice",
      password: "p",
    });
    const session = new MatrixSession({ fetch: egressFetch, homeserver: homeserver.url, ...again });
    expect((await session.whoami()).userId).toBe(again.userId);
  });

  test("a wrong registration token registers no account", async () => {
    const error = await refusal(
      registerWithToken({
        fetch: egressFetch,
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
    const error = await refusal(
      login({ fetch: egressFetch, homeserver: homeserver.url, user: userId, password: "wrong" }),
    );
    expect(error.code).toBe("forbidden");
  });

  test("a changed password is the only one that logs in", async () => {
    const session = await person("old");
    await session.changePassword("old", "new", true);
    expect((await session.whoami()).userId).toBe(session.userId);
    const where = { homeserver: homeserver.url, user: session.userId };
    expect((await refusal(login({ fetch: egressFetch, ...where, password: "old" }))).code).toBe("forbidden");
    expect((await login({ fetch: egressFetch, ...where, password: "new" })).userId).toBe(session.userId);
  });

  test("a token that was logged out is revoked, not merely refused", async () => {
    const session = await person();
    await session.logout();
    const error = await refusal(session.whoami());
    expect(error.code).toBe("unauthorized");
    expect(isRevoked(error)).toBe(true);
    expect(isTransient(error)).toBe(false);
  });

  test("a deactivated account is locked out", async () => {
    const session = await person("mine");
    await session.deactivate("mine");
    expect(isRevoked(await refusal(session.whoami()))).toBe(true);
  });
}

function defineRooms(): void {
  test("resolves an alias; a missing one is undefined", async () => {
    const session = await person();
    await session.createRoom({ room_alias_name: "some", preset: "private_chat" });
    const room = await session.createRoom({ room_alias_name: "some/room", preset: "private_chat" });
    expect(await session.resolveAlias(parseRoomAlias(`#some/room:${homeserver.serverName}`))).toBe(room);
    expect(await session.resolveAlias(parseRoomAlias(`#no/room:${homeserver.serverName}`))).toBeUndefined();
  });

  test("writes and reads state; a key with slashes is one key; missing state is undefined", async () => {
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

  test("an invited user joins, sees the members and can be removed", async () => {
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

  test("keeps both of two concurrent writes to one event", async () => {
    const session = await person();
    const room = await session.createRoom({ preset: "private_chat" });
    const machine = parseUserId(`@bureau/fleet/test/machine/m1:${homeserver.serverName}`);
    const edit = (change: MachineInfoChange) => editMachineInfo(session, room, machine, change);
    const labels = (value: string | undefined, ...names: string[]) =>
      new Map(names.map((name) => [name, value]));
    await edit({ fields: new Map([["hostname", "old"]]), labels: labels("yes", "gone") });
    const rounds = ["a", "b", "c", "d", "e"];
    for (const round of rounds) {
      await Promise.all([
        edit({ labels: labels(undefined, "gone", `old-${round}`) }),
        edit({ fields: new Map([["hostname", round]]), labels: labels("yes", round) }),
      ]);
      await Promise.all([
        edit({ labels: labels("yes", `old-${round}`) }),
        edit({ labels: labels("yes", "gone") }),
      ]);
    }
    expect(await session.getState(room, "m.bureau.machine_info", machine.slice(1))).toEqual({
      hostname: "e",
      labels: Object.fromEntries(
        ["gone", ...rounds.flatMap((one) => [one, `old-${one}`])].map((one) => [one, "yes"]),
      ),
    });
    expect((await edit({ labels: labels("yes", "a") })).written).toBe(false);
  });

  test("changes power levels without losing the others", async () => {
    const session = await person();
    const room = await session.createRoom({
      preset: "private_chat",
      power_level_content_override: { notifications: { room: 77 }, events: { "m.bureau.a": 5 } },
    });
    await changePowerLevels(
      session,
      room,
      { users: { [`@other:${homeserver.serverName}`]: 50 }, events: { "m.bureau.b": 6 } },
      { clock: systemClock },
    );
    expect(await session.getState(room, "m.room.power_levels", "")).toMatchObject({
      notifications: { room: 77 },
      events: { "m.bureau.a": 5, "m.bureau.b": 6 },
      users: { [`@other:${homeserver.serverName}`]: 50 },
    });
  });
}

/** Runs a sync loop until `until` accepts the received state. */
async function syncUntil(
  session: MatrixSession,
  store: RoomStateStore,
  until: (response: SyncResponse) => boolean,
): Promise<void> {
  const stop = new AbortController();
  await runSyncLoop({
    session,
    clock: systemClock,
    signal: stop.signal,
    onSync(response) {
      store.apply(response);
      if (until(response)) stop.abort();
    },
  });
}

function defineSync(): void {
  test("room state follows changes by others, and leaving drops the room", async () => {
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

  test("delivers an invitation with the rooms that we are invited to", async () => {
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
}
