/** Which build the machine's configuration in its room requests. */
import type { RoomView } from "@bureau/matrix/room-state";
import { digestOf } from "@bureau/os/digest";
import { type BureauVersion, BureauVersionSchema, eventTypes } from "@bureau/schema/events";
import * as v from "valibot";
import type { UpgradeRequest } from "./upgrade-state.ts";

const ConfigSchema = v.object({ bureau_version: v.optional(BureauVersionSchema) });

/**
 * Undefined when no build is requested, or the field is invalid, which the reader of the whole configuration reports.
 */
export function wantedBuild(view: RoomView | undefined, key: string): UpgradeRequest | undefined {
  const event = view?.get(eventTypes.machineConfig, key);
  const parsed = v.safeParse(ConfigSchema, event?.content);
  const version = parsed.success ? parsed.output.bureau_version : undefined;
  const path = version === undefined ? undefined : environmentOf(version);
  if (event === undefined || version === undefined || path === undefined) return undefined;
  return {
    // Other writers give no id: equal content is the same request.
    request_id: version.request_id ?? digestOf(version).slice(0, 16),
    path,
    // The requester is the event's sender, not a value from the content.
    ...(event.sender === "" ? {} : { requested_by: event.sender }),
    ...(version.requested_at === undefined ? {} : { requested_at: version.requested_at }),
  };
}

/** Writers that do not name the build name its daemon's file instead. */
function environmentOf(version: BureauVersion): string | undefined {
  if (version.host_environment_path !== undefined) return version.host_environment_path;
  return /^(\/.+)\/bin\/bureau-daemon$/.exec(version.daemon_store_path)?.[1];
}
