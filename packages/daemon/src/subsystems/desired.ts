/** What should run on this machine, by its rooms. */
import { localpartBytesMaxFor } from "@bureau/schema/refs";
import { subsystem } from "../assembly/subsystem.ts";
import { DesiredResolver } from "../desired/desired-resolver.ts";
import { DesiredSource } from "../desired/desired-source.ts";
import type { Audit } from "./audit.ts";
import type { Messages } from "./messages.ts";
import type { Rooms } from "./rooms.ts";

type Needs = { readonly messages: Messages; readonly audit: Audit; readonly rooms: Rooms };

export const desired = subsystem({
  name: "desired",
  needs: { messages: true, audit: true, rooms: true },
  start({ messages, audit, rooms }: Needs, { config, hub, log }) {
    const place = { machine: config.machine, server: config.serverName };
    const localpartBytesMax = localpartBytesMaxFor(config.layout.runDir);
    const resolver = new DesiredResolver({ ...place, localpartBytesMax });
    const source = new DesiredSource({
      ...place,
      resolver,
      states: rooms.states,
      directory: rooms.directory,
      scope: rooms.scope,
      members: rooms.members,
      notify: messages.post,
      onAuthorization: audit.grantsNow,
      log,
    });
    hub.on("rooms.joined", ({ config, fleetServices }) => source.setConfigRoom(config, fleetServices));
    return { part: source, views: { state: () => ({ computed: resolver.computed }) } };
  },
});
