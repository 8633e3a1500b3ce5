/** The fleet's services as a proxy tells of them (wire facts, section 7.3), from the state of the service room. Pure. */
import type { RoomView } from "@bureau/matrix/room-state";
import { eventTypes, ServiceSchema } from "@bureau/schema/events";
import type { DirectoryEntry } from "@bureau/schema/proxy-wire";
import { principalNameOf, principalOfUser, RefError, type UserId } from "@bureau/schema/refs";
import * as v from "valibot";

/** By name. Leaves out entries that are withdrawn, malformed, or about another principal than the state key's. */
export function directoryEntries(view: RoomView | undefined): DirectoryEntry[] {
  const found = (view?.ofType(eventTypes.service) ?? []).flatMap((event): DirectoryEntry[] => {
    const parsed = v.safeParse(ServiceSchema, event.content);
    if (!parsed.success) return [];
    const { principal, machine, endpoints = {}, ...rest } = parsed.output;
    const localpart = principal === undefined ? undefined : nameOf(principal);
    if (principal !== `@${event.stateKey}` || localpart === undefined || machine === undefined) return [];
    const { description, capabilities, metadata } = rest;
    return [
      {
        localpart,
        principal,
        machine,
        endpoints: Object.keys(endpoints).sort(),
        ...(description === undefined ? {} : { description }),
        ...(capabilities === undefined ? {} : { capabilities }),
        ...(metadata === undefined ? {} : { metadata }),
      },
    ];
  });
  return found.sort((a, b) => (a.localpart < b.localpart ? -1 : 1));
}

/** Names in a room are untrusted. */
function nameOf(user: UserId) {
  try {
    return principalNameOf(principalOfUser(user));
  } catch (error) {
    if (error instanceof RefError) return undefined;
    throw error;
  }
}
