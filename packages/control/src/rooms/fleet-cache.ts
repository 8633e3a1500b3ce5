/** Where the machines of a fleet fetch Nix store paths from. */
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, type FleetCache, FleetCacheSchema } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import type { FleetLocalpart } from "@bureau/schema/refs";
import * as v from "valibot";
import { roomOfFleet } from "./places.ts";

/** Fields to set; an undefined field stays as it is. */
export type FleetCacheChange = {
  readonly [name in keyof FleetCache]?: Readonly<FleetCache[name]> | undefined;
};

/** Undefined when the fleet has no cache. @throws BureauError `not-found` for an unknown fleet */
export async function readFleetCache(
  session: MatrixSession,
  fleet: FleetLocalpart,
): Promise<FleetCache | undefined> {
  const content = await session.getState(await roomOfFleet(session, fleet), eventTypes.fleetCache, "");
  const known = v.safeParse(FleetCacheSchema, content);
  return known.success ? known.output : undefined;
}

/** Returns the cache afterwards. @throws InputError when a field is missing or malformed: nothing is written then */
export async function changeFleetCache(
  session: MatrixSession,
  fleet: FleetLocalpart,
  change: FleetCacheChange,
): Promise<FleetCache> {
  const given = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
  const after = parse(FleetCacheSchema, { ...(await readFleetCache(session, fleet)), ...given }, "cache");
  await session.putState(await roomOfFleet(session, fleet), eventTypes.fleetCache, "", after);
  return after;
}
