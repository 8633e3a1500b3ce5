/**
 * The services and machines of a fleet, from the state of its service room. Machines are the room's members: a service
 * may not read the fleet's machine room. Pure, over a view that shows only events that count.
 */
import { announcedServices } from "@bureau/matrix/announced-services";
import type { RoomView } from "@bureau/matrix/room-state";
import type { FleetMachine, ListedService } from "@bureau/schema/directory-wire";
import { eventTypes } from "@bureau/schema/events";
import { localpartOf, parseMachine, parseUserId, RefError, type UserId } from "@bureau/schema/refs";

/** By name. */
export const servicesIn = (view: RoomView): ListedService[] =>
  announcedServices(view).map(
    ({ name, principal, machine, capabilities = [], endpoints = {}, description }) => ({
      user_id: principal,
      name,
      ...(machine === undefined ? {} : { machine }),
      capabilities,
      endpoints,
      ...(description === undefined ? {} : { description }),
    }),
  );

/** By name, each with its services. */
export function machinesIn(view: RoomView): FleetMachine[] {
  const services = servicesIn(view);
  const members = view
    .ofType(eventTypes.member)
    .filter(({ content }) => content["membership"] === "join")
    .flatMap(({ stateKey }): UserId[] => unlessMalformed(() => [parseUserId(stateKey)]) ?? []);
  const machines = members.flatMap((user): FleetMachine[] => {
    const name = unlessMalformed(() => parseMachine(localpartOf(user)));
    if (name === undefined) return [];
    const there = services.filter(({ machine }) => machine === user);
    return [{ user_id: user, name, services: there.map((service) => service.name) }];
  });
  return machines.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Names in a room are untrusted: undefined for one that breaks its grammar. */
function unlessMalformed<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (error instanceof RefError) return undefined;
    throw error;
  }
}
