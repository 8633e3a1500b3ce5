/** The fleet's services as a proxy tells of them (wire facts, section 7.3), from the state of the service room. Pure. */
import { announcedServices } from "@bureau/matrix/announced-services";
import type { RoomView } from "@bureau/matrix/room-state";
import type { DirectoryEntry } from "@bureau/schema/proxy-wire";

/** By name. Leaves out services that name no machine. */
export const directoryEntries = (view: RoomView | undefined): DirectoryEntry[] =>
  (view === undefined ? [] : announcedServices(view)).flatMap(
    ({ name, principal, machine, endpoints = {}, description, capabilities, metadata }) =>
      machine === undefined
        ? []
        : [
            {
              localpart: name,
              principal,
              machine,
              endpoints: Object.keys(endpoints).sort(),
              ...(description === undefined ? {} : { description }),
              ...(capabilities === undefined ? {} : { capabilities }),
              ...(metadata === undefined ? {} : { metadata }),
            },
          ],
  );
