/** The machine's connection to its homeserver: it tells the others what /sync brings. */
import { backoffOf, standardBackoff } from "@bureau/kit/backoff";
import { subsystem } from "../assembly/subsystem.ts";
import type { Facts } from "../heartbeat/publish-facts.ts";
import { MachineConnection } from "../machine-connection.ts";
import { trialBackoff } from "../upgrade/upgrader.ts";
import type { Rooms } from "./rooms.ts";
import type { Upgrade } from "./upgrade.ts";

type Needs = { readonly rooms: Rooms; readonly facts: Facts; readonly upgrade: Upgrade };

export const connection = subsystem({
  name: "connection",
  needs: { rooms: true, facts: true, upgrade: true },
  start({ rooms, facts, upgrade }: Needs, { config, hub, clock, random }) {
    const part = new MachineConnection({
      ...facts,
      machine: config.machine,
      server: config.serverName,
      states: rooms.states,
      scope: rooms.scope,
      members: rooms.members,
      clock,
      random,
      backoff: backoffOf(() => (upgrade.upgrader?.isOnTrial === true ? trialBackoff : standardBackoff)),
      onRooms: (joined) => hub.emit("rooms.joined", joined),
      onChange: (change) => hub.emit("rooms.changed", change),
      onConfigEvents: (events) => hub.emit("config.messages", events),
      onState: (state) => hub.emit("connection.changed", state),
    });
    return { part, loops: [(signal) => part.run(signal)], views: { state: () => ({ ...part.state }) } };
  },
});
