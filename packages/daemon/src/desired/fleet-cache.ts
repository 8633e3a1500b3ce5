/** The fleet's Nix cache, from its room. An unreadable event counts as none. */
import type { RoomView } from "@bureau/matrix/room-state";
import { eventTypes, type FleetCache, FleetCacheSchema } from "@bureau/schema/events";
import * as v from "valibot";

export function fleetCache(fleetRoom: RoomView | undefined): FleetCache | undefined {
  const parsed = v.safeParse(FleetCacheSchema, fleetRoom?.get(eventTypes.fleetCache, "")?.content);
  return parsed.success ? parsed.output : undefined;
}
