/** Where the fleet's store paths come from, as its room says. What cannot be read counts as nothing. */
import type { RoomView } from "@bureau/matrix/room-state";
import { eventTypes, type FleetCache, FleetCacheSchema } from "@bureau/schema/events";
import * as v from "valibot";

export function fleetCache(fleetRoom: RoomView | undefined): FleetCache | undefined {
  const parsed = v.safeParse(FleetCacheSchema, fleetRoom?.get(eventTypes.fleetCache, "")?.content);
  return parsed.success ? parsed.output : undefined;
}
