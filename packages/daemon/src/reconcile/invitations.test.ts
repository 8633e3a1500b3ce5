import { describe, expect, test } from "bun:test";
import { systemClock } from "@bureau/kit/clock";
import { silentLog } from "@bureau/os/testing/silent-log";
import { type PrincipalName, parsePrincipalName, parseRoomId, parseUserId } from "@bureau/schema/refs";
import type { DesiredPrincipal, WantedSandbox } from "../desired/desired.ts";
import { Invitations } from "./invitations.ts";
import { workingRooms } from "./working-rooms.ts";

const room = (name: string) => parseRoomId(`!${name}:bureau.test`);
const rooms = {
  config: room("config"),
  fleetMachines: room("machines"),
  fleet: room("fleet"),
  system: room("system"),
  fleetServices: room("services"),
};
const agent = parsePrincipalName("agent/a");
const service = parsePrincipalName("service/web");
const sandbox = (payload = {}, workspace?: ReturnType<typeof room>): WantedSandbox =>
  ({ spec: { command: [], payload }, workspace }) as unknown as WantedSandbox;
const principal = (account: PrincipalName): DesiredPrincipal =>
  ({
    account,
    userId: parseUserId(`@bureau/fleet/test/${account}:bureau.test`),
  }) as unknown as DesiredPrincipal;

describe("the rooms a principal works in", () => {
  test("are the service rooms for a service, the workspace's room if it has one, and never the config room", () => {
    expect(workingRooms(agent, sandbox(), rooms)).toEqual([]);
    expect(workingRooms(service, sandbox(), rooms)).toEqual([rooms.system, rooms.fleetServices, rooms.fleet]);
    expect(workingRooms(agent, sandbox({ WORKSPACE_ROOM_ID: "!w:bureau.test" }), rooms)).toEqual([room("w")]);
    expect(workingRooms(agent, sandbox({ WORKSPACE_ROOM_ID: "!w:bureau.test" }, room("c")), rooms)).toEqual([
      room("c"),
    ]);
    expect(workingRooms(agent, sandbox({ WORKSPACE_ROOM_ID: rooms.config }), rooms)).toEqual([]);
    for (const other of ["no room", 7, null])
      expect(workingRooms(agent, sandbox({ WORKSPACE_ROOM_ID: other }), rooms)).toEqual([]);
    expect(workingRooms(service, sandbox(), undefined)).toEqual([]);
  });
});

describe("invitations", () => {
  const open = (member: (room: string) => unknown) => {
    const invited: string[] = [];
    const session = {
      getState: async (id: string) => member(id),
      inviteUser: async (id: string) => {
        invited.push(id);
        if (id === rooms.fleet) throw new Error("M_FORBIDDEN");
      },
    };
    const invitations = new Invitations({
      rooms: () => rooms,
      clock: systemClock,
      log: silentLog,
      session: session as unknown as ConstructorParameters<typeof Invitations>[0]["session"],
    });
    return { invitations, invited };
  };

  test("are sent once to a user who is not a member yet, and retried at the next start after a failure", async () => {
    const { invitations, invited } = open((id) => (id === rooms.system ? { membership: "join" } : undefined));
    await invitations.send(principal(service), sandbox());
    expect(invited).toEqual([rooms.fleetServices, rooms.fleet]);
    await invitations.send(principal(service), sandbox());
    expect(invited).toEqual([rooms.fleetServices, rooms.fleet, rooms.fleet]);
  });
});
