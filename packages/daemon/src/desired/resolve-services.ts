/**
 * Which services answer what a template requires: binding of the role in the workspace's room, else in the config room
 * (wire facts, section 3.8), then the provider's entry in the fleet's service directory. Pure.
 *
 * Rooms and templates are untrusted: an entry counts only from a sender who may write it (`schema/event-writers`), and names
 * become file names only after their grammar was checked.
 */
import type { RoomView } from "@bureau/matrix/room-state";
import { eventTypes, ServiceBindingSchema, ServiceSchema } from "@bureau/schema/events";
import { serviceSocketName } from "@bureau/schema/inside-paths";
import {
  type FleetLocalpart,
  fleetOf,
  type PrincipalName,
  principalNameOf,
  principalOfUser,
  principalType,
  RefError,
  stateKeyOf,
  type UserId,
} from "@bureau/schema/refs";
import {
  CBOR_ENDPOINT,
  parseServiceRequirement,
  type ServiceRequirement,
} from "@bureau/schema/service-requirement";
import * as v from "valibot";

export type RequiredService = {
  readonly role: string;
  /** The name of its socket in the sandbox, without `.sock`. */
  readonly socketName: string;
  /** A service of this machine. */
  readonly provider: PrincipalName;
  /** It speaks CBOR, so it can be told which tokens are revoked. */
  readonly hearsRevocations: boolean;
};

export type ServicesOutcome = {
  readonly services: readonly RequiredService[];
  /** Why the sandbox cannot start yet; a running one continues. */
  readonly missing: string | undefined;
  /** Why it never can. */
  readonly fault: string | undefined;
};

export type ServiceRooms = {
  readonly workspace: RoomView | undefined;
  readonly config: RoomView | undefined;
  /** The fleet's service directory; undefined while the machine is not in it. */
  readonly directory: RoomView | undefined;
};

type Machine = { readonly user: UserId; readonly fleet: FleetLocalpart };

const none: ServicesOutcome = { services: [], missing: undefined, fault: undefined };

export function resolveServices(
  required: readonly string[],
  rooms: ServiceRooms,
  machine: Machine,
): ServicesOutcome {
  if (required.length === 0) return none;
  const services: RequiredService[] = [];
  const missing: string[] = [];
  const names = new Set<string>();
  for (const text of required) {
    try {
      const requirement = parseServiceRequirement(text);
      if (names.has(requirement.socketName)) continue;
      names.add(requirement.socketName);
      const found = providerOf(requirement, rooms, machine);
      if ("missing" in found) missing.push(found.missing);
      else services.push({ ...found, role: requirement.role, socketName: requirement.socketName });
    } catch (error) {
      if (error instanceof RefError) return { ...none, fault: error.message };
      throw error;
    }
  }
  return { services, missing: missing.length === 0 ? undefined : missing.join("; "), fault: undefined };
}

type Found = Pick<RequiredService, "provider" | "hearsRevocations"> | { readonly missing: string };

function providerOf({ role, endpoint }: ServiceRequirement, rooms: ServiceRooms, machine: Machine): Found {
  const user = boundTo(role, rooms);
  if (user === undefined)
    return {
      missing: `for a binding of the service role "${role}" (bureau service bind ${role} service/NAME)`,
    };
  const entry = entryOf(user, rooms.directory);
  const what = `for the service "${role}" (${user})`;
  if (entry?.machine === undefined) return { missing: `${what} to announce itself` };
  const provider = serviceOf(user, machine.fleet);
  if (provider === undefined) return { missing: `${what}: it is no service of the fleet ${machine.fleet}` };
  if (entry.machine !== machine.user)
    return {
      missing: `${what}: it runs on ${entry.machine}, and this version reaches services of its own machine only`,
    };
  const socket = entry.endpoints?.[endpoint];
  if (socket === undefined) return { missing: `${what}: it has no endpoint "${endpoint}"` };
  if (socket !== serviceSocketName)
    return {
      missing: `${what}: its endpoint "${endpoint}" is the socket "${socket}", and this version reaches "${serviceSocketName}" only`,
    };
  return { provider, hearsRevocations: entry.endpoints?.[CBOR_ENDPOINT] === serviceSocketName };
}

function boundTo(role: string, { workspace, config }: ServiceRooms): UserId | undefined {
  for (const room of [workspace, config]) {
    const binding = v.safeParse(ServiceBindingSchema, room?.get(eventTypes.serviceBinding, role)?.content);
    if (binding.success && binding.output.principal !== undefined) return binding.output.principal;
  }
  return undefined;
}

function entryOf(user: UserId, directory: RoomView | undefined) {
  const event = directory?.get(eventTypes.service, stateKeyOf(user));
  const entry = v.safeParse(ServiceSchema, event?.content);
  return entry.success && entry.output.principal === user ? entry.output : undefined;
}

/** Undefined for a principal of another fleet or another type: no socket of this machine is its. */
function serviceOf(user: UserId, fleet: FleetLocalpart): PrincipalName | undefined {
  try {
    const principal = principalOfUser(user);
    const name = principalNameOf(principal);
    return fleetOf(principal) === fleet && principalType(name) === "service" ? name : undefined;
  } catch (error) {
    if (error instanceof RefError) return undefined;
    throw error;
  }
}
