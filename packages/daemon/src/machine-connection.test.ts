/**
 * A homeserver restored from a backup. A real one cannot be made to lose state on request, so the session is simulated.
 */
import { expect, test } from "bun:test";
import { standardBackoff } from "@bureau/kit/backoff";
import { MatrixError } from "@bureau/matrix/matrix-error";
import { RoomStateStore } from "@bureau/matrix/room-state";
import type { MatrixSession } from "@bureau/matrix/session";
import { parseSyncResponse } from "@bureau/matrix/sync-response";
import { silentLog } from "@bureau/os/testing/silent-log";
import { parseMachine, parseRoomId, parseServerName, type RoomId, type UserId } from "@bureau/schema/refs";
import { readHardware } from "./hardware/machine-info.ts";
import { MachineConnection } from "./machine-connection.ts";
import { SyncScope } from "./sync/sync-scope.ts";

const server = parseServerName("bureau.test");
const machine = parseMachine("bureau/fleet/f/machine/m");
const userId = `@${machine}:${server}` as UserId;
const template = parseRoomId("!template:bureau.test");

test("drops rooms that a restored homeserver no longer has the machine in, and joins the machine's again", async () => {
  const homes: RoomId[] = [];
  const stop = new AbortController();
  const refused = new MatrixError("failed", "from the future", { status: 400, errcode: "M_INVALID_PARAM" });
  // Each response is an initial sync, and the request that would continue from it is refused.
  const pictures = [() => [...homes, template], () => homes, () => homes.slice(1), () => homes];
  const session = {
    userId,
    whoami: async () => ({ userId }),
    resolveAlias: async (alias: string) => parseRoomId(`!${alias.replaceAll(/[^a-z]/g, "")}:${server}`),
    joinedRooms: async () => [...homes],
    async joinRoom(room: RoomId) {
      if (!homes.includes(room)) homes.push(room);
      return room;
    },
    getState: async () => undefined,
    stateEvent: async () => undefined,
    putState: async () => "$sent",
    async sync({ since }: { since: string | undefined }) {
      if (since !== undefined) throw refused;
      const rooms = pictures.shift()?.() ?? [];
      if (pictures.length === 0) stop.abort();
      const join = Object.fromEntries(rooms.map((room) => [room, {}]));
      return parseSyncResponse({ next_batch: "s", rooms: { join } });
    },
  };
  const left: RoomId[][] = [];
  let joined = 0;
  const states: string[] = [];
  const connection = new MachineConnection({
    session: session as unknown as MatrixSession,
    machine,
    server,
    members: { note() {} },
    states: new RoomStateStore(),
    scope: new SyncScope(),
    hardware: readHardware(),
    keyFile: "/nowhere",
    signingKey: new Uint8Array(32),
    version: "1",
    random: () => 0,
    log: silentLog,
    backoff: standardBackoff,
    clock: { now: () => 0, monotonic: () => 0, sleep: async () => {} },
    onRooms: () => void joined++,
    onChange: (change) => void left.push([...change.left]),
    onConfigEvents: () => {},
    onState: ({ kind }) => void states.push(kind),
  });
  await connection.run(stop.signal);
  expect(left).toEqual([[], [template], homes.slice(0, 1), []]);
  expect(joined).toBe(2);
  expect(connection.state.kind).toBe("online");
  // Each refused sync position, and each accepted initial sync, changes the state at once.
  expect(states.slice(0, 3)).toEqual(["online", "disconnected", "online"]);
});

test("accepts an administrator's invitation; logs another user's once and leaves it pending", async () => {
  const config = parseRoomId("!config:bureau.test");
  const [wanted, strange] = [parseRoomId("!wanted:bureau.test"), parseRoomId("!strange:bureau.test")];
  const stop = new AbortController();
  const joined: RoomId[] = [];
  const invitation = (sender: string) => ({
    invite_state: {
      events: [{ type: "m.room.member", state_key: userId, sender, content: { membership: "invite" } }],
    },
  });
  const power = {
    type: "m.room.power_levels",
    state_key: "",
    event_id: "$1",
    sender: "@admin:bureau.test",
    content: { users: { "@admin:bureau.test": 100 } },
  };
  let answers = 0;
  const session = {
    userId,
    whoami: async () => ({ userId }),
    joinedRooms: async () => [config],
    resolveAlias: async () => config,
    async joinRoom(room: RoomId) {
      joined.push(room);
      return room;
    },
    getState: async () => undefined,
    stateEvent: async () => undefined,
    putState: async () => "$sent",
    async sync() {
      if (++answers === 3) stop.abort();
      return parseSyncResponse({
        next_batch: `s${answers}`,
        rooms: {
          join: { [config]: { state: { events: [power] } } },
          invite: { [wanted]: invitation("@admin:bureau.test"), [strange]: invitation("@agent:bureau.test") },
        },
      });
    },
  };
  const warnings: string[] = [];
  const log = { ...silentLog, warn: (message: string) => void warnings.push(message) };
  const connection = new MachineConnection({
    session: session as unknown as MatrixSession,
    machine,
    server,
    members: { note() {} },
    states: new RoomStateStore(),
    scope: new SyncScope(),
    hardware: readHardware(),
    keyFile: "/nowhere",
    signingKey: new Uint8Array(32),
    version: "1",
    random: () => 0,
    log,
    backoff: standardBackoff,
    clock: { now: () => 0, monotonic: () => 0, sleep: async () => {} },
    onRooms: () => {},
    onConfigEvents: () => {},
    onState: () => {},
    onChange: () => {},
  });
  await connection.run(stop.signal);
  expect(joined).toContain(wanted);
  expect(joined).not.toContain(strange);
  expect(warnings.filter((message) => message.includes("invitation"))).toHaveLength(1);
});
