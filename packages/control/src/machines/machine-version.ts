/** The build that a machine reports to run, and the outcomes of its upgrades. */
import { eventTypes, type MachineVersion, MachineVersionSchema } from "@bureau/schema/events";
import { safeParse } from "valibot";
import type { StateReader } from "../rooms/room-snapshot.ts";
import type { ConfigPlace } from "./config-parts.ts";

/** What the machine last reported; undefined when it never did, or not in a valid event. */
export async function readMachineVersion(
  session: StateReader,
  place: ConfigPlace,
): Promise<MachineVersion | undefined> {
  const content = await session.getState(place.room, eventTypes.machineVersion, place.key);
  const parsed = safeParse(MachineVersionSchema, content);
  return parsed.success ? parsed.output : undefined;
}
