/** `bureau-service-directory`: tells which services and machines a fleet has, to programs that may not read its rooms. */
import { BureauError } from "@bureau/kit/errors";
import type { RoomView } from "@bureau/matrix/room-state";
import { action } from "@bureau/os/cbor-server";
import { directoryRequests } from "@bureau/schema/directory-wire";
import { eventTypes } from "@bureau/schema/events";
import { runService, type ServiceContext } from "@bureau/service-kit/run-service";
import { machinesIn, servicesIn } from "./fleet-directory.ts";

void runService({
  program: "bureau-service-directory",
  role: "directory",
  offer: { description: "Lists the services and machines of the fleet", capabilities: ["directory"] },
  follows: [eventTypes.service, eventTypes.member],
  actions: (context) => ({
    services: action(directoryRequests.services, async ({ capability }) => {
      const all = servicesIn(serviceRoomOf(context));
      const services = all.filter(
        ({ capabilities }) => capability === undefined || capabilities.includes(capability),
      );
      return { services };
    }),
    machines: action(directoryRequests.machines, async () => ({
      machines: machinesIn(serviceRoomOf(context)),
    })),
  }),
});

/** @throws BureauError `unavailable` before the first sync */
function serviceRoomOf({ states, serviceRoom }: ServiceContext): RoomView {
  const view = states.room(serviceRoom);
  if (view !== undefined) return view;
  throw new BureauError("unavailable", "Cannot list the fleet: the service has not synced its room yet", {
    hint: "ask again in a few seconds",
  });
}
