/**
 * The services and machines of a fleet, from the state of its service room. Machines are the room's members: a service
 * may not read the fleet's machine room. Pure, over a view that shows only events that count.
 */
import type { RoomView } from "@bureau/matrix/room-state";
import type { FleetMachine, ListedService } from "@bureau/schema/directory-wire";
import { eventTypes, ServiceSchema } from "@bureau/schema/events";
import {
  localpartOf,
  parseMachine,
  parsePrincipal,
  parseUserId,
  principalNameOf,
  RefError,
  type UserId,
  userOfStateKey,
} from "@bureau/schema/refs";
import { safeParse } from "valibot";

/** By name. An entry that is malformed, withdrawn or about another principal is left out. */
export function servicesIn(view: RoomView): ListedService[] {
  const found = view.ofType(eventTypes.service).flatMap((event): ListedService[] => {
    const parsed = safeParse(ServiceSchema, event.content);
    if (!parsed.success) return [];
    const { principal, machine, capabilities = [], endpoints = {}, description } = parsed.output;
    const name = unlessMalformed(() =>
      principalNameOf(parsePrincipal(localpartOf(userOfStateKey(event.stateKey)))),
    );
    if (name === undefined || principal === undefined || principal !== `@${event.stateKey}`) return [];
    return [
      {
        user_id: principal,
        name,
        ...(machine === undefined ? {} : { machine }),
        capabilities,
        endpoints,
        ...(description === undefined ? {} : { description }),
      },
    ];
  });
  return found.sort(byName);
}

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
  return machines.sort(byName);
}

const byName = (a: { readonly name: string }, b: { readonly name: string }): number =>
  a.name < b.name ? -1 : 1;

/** Names in a room are untrusted: undefined for one that breaks its grammar. */
function unlessMalformed<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (error instanceof RefError) return undefined;
    throw error;
  }
}
