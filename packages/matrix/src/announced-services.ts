/**
 * The services that a fleet's service room announces (wire facts, section 3.7). Pure, over a view that shows only events
 * that count; what an entry says is untrusted.
 */
import { eventTypes, type Service, ServiceSchema } from "@bureau/schema/events";
import {
  type PrincipalName,
  principalNameOf,
  principalOfUser,
  RefError,
  type UserId,
} from "@bureau/schema/refs";
import { safeParse } from "valibot";
import type { RoomView } from "./room-state.ts";

export type AnnouncedService = Omit<Service, "principal"> & {
  readonly name: PrincipalName;
  readonly principal: UserId;
};

/** By name. An entry that is malformed, withdrawn or about another principal than its state key's is left out. */
export function announcedServices(view: RoomView): AnnouncedService[] {
  const found = view.ofType(eventTypes.service).flatMap((event): AnnouncedService[] => {
    const parsed = safeParse(ServiceSchema, event.content);
    const principal = parsed.success ? parsed.output.principal : undefined;
    if (!parsed.success || principal === undefined || principal !== `@${event.stateKey}`) return [];
    const name = nameOf(principal);
    return name === undefined ? [] : [{ ...parsed.output, name, principal }];
  });
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Undefined for a user that is no principal. */
function nameOf(user: UserId): PrincipalName | undefined {
  try {
    return principalNameOf(principalOfUser(user));
  } catch (error) {
    if (error instanceof RefError) return undefined;
    throw error;
  }
}
