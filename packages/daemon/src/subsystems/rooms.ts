/** The rooms as /sync shows them: their state, which ones the machine is in, and those it looks for by alias. */
import { RoomStateStore, type RoomView } from "@bureau/matrix/room-state";
import type { FleetCache } from "@bureau/schema/events";
import { subsystem } from "../assembly/subsystem.ts";
import { fleetCache } from "../desired/fleet-cache.ts";
import { eventMessage } from "../event-messages/event-message.ts";
import type { MachineRooms } from "../sync/machine-rooms.ts";
import { RoomDirectory } from "../sync/room-directory.ts";
import { RoomMembers } from "../sync/room-members.ts";
import { SyncScope } from "../sync/sync-scope.ts";
import type { Messages } from "./messages.ts";

export type Rooms = {
  readonly states: RoomStateStore;
  readonly directory: RoomDirectory;
  readonly scope: SyncScope;
  readonly members: RoomMembers;
  /** Undefined until the machine has joined its rooms. */
  readonly joined: () => MachineRooms | undefined;
  /** The config room; undefined until it is joined and synced. */
  readonly config: () => RoomView | undefined;
  /** Where the fleet's store paths come from, as its room says. */
  readonly fleetCache: () => FleetCache | undefined;
};

export const rooms = subsystem({
  name: "rooms",
  needs: { messages: true },
  start({ messages }: { messages: Messages }, { session, hub, clock, random, log }) {
    const states = new RoomStateStore((ignored) => messages.post(eventMessage.configInvalid(ignored)));
    const directory = new RoomDirectory({
      session,
      clock,
      random,
      log,
      isJoined: (room) => states.joinedRooms().includes(room),
      onChange: () => hub.emit("rooms.searched"),
    });
    const members = new RoomMembers({
      session,
      clock,
      random,
      log,
      onChange: () => hub.emit("rooms.searched"),
    });
    let joined: MachineRooms | undefined;
    hub.on("rooms.joined", (rooms) => {
      joined = rooms;
    });
    hub.on("rooms.changed", ({ left, invited }) => {
      for (const room of left) directory.left(room);
      if (invited) directory.lookAgain();
    });
    const part: Rooms = {
      states,
      directory,
      scope: new SyncScope(),
      members,
      joined: () => joined,
      config: () => (joined === undefined ? undefined : states.room(joined.config)),
      fleetCache: () => fleetCache(joined?.fleet === undefined ? undefined : states.room(joined.fleet)),
    };
    return {
      part,
      views: {
        rooms: () => ({
          joined: { ...joined },
          aliases: directory.lookups(),
          events: Object.fromEntries(states.joinedRooms().map((room) => [room, states.counts(room)])),
        }),
      },
      stop() {
        directory[Symbol.dispose]();
        members[Symbol.dispose]();
      },
    };
  },
});
