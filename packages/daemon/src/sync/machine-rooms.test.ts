import { expect, test } from "bun:test";
import { silentLog } from "@bureau/os/testing/silent-log";
import { parseMachine, parseRoomId, parseServerName, type RoomId } from "@bureau/schema/refs";
import { joinMachineRooms } from "./machine-rooms.ts";

const server = parseServerName("bureau.test");
const machine = parseMachine("bureau/fleet/f/machine/m");
const roomOf = (alias: string): RoomId => parseRoomId(`!${alias.replaceAll(/[^a-z]/g, "")}:${server}`);

test("joins only rooms that the machine is not in", async () => {
  const joined = [roomOf("#bureau/fleet/f/machine/m:bureau.test"), roomOf("#bureau/system:bureau.test")];
  const asked: RoomId[] = [];
  const session = {
    resolveAlias: async (alias: string) => roomOf(alias),
    joinedRooms: async () => joined,
    async joinRoom(room: RoomId) {
      asked.push(room);
      return room;
    },
  };
  const join = () =>
    joinMachineRooms(
      session as unknown as Parameters<typeof joinMachineRooms>[0],
      ...([machine, server, silentLog, new AbortController().signal] as const),
    );
  const rooms = await join();
  expect(rooms.config).toBe(joined[0] as RoomId);
  expect(asked).toEqual(
    [
      "#bureau/fleet/f/machine:bureau.test",
      "#bureau/fleet/f:bureau.test",
      "#bureau/fleet/f/service:bureau.test",
    ].map(roomOf),
  );
  joined.push(...asked.splice(0));
  expect(await join()).toEqual(rooms);
  expect(asked).toEqual([]);
});
