/** Filters for one /sync of a command, which passes state events of a few types. */
import { type SyncTypes, syncFilter } from "@bureau/matrix/sync-filter";

/** A filter for /sync that passes state events of these types and nothing else. */
export const narrowFilter = (types: readonly string[], where?: SyncTypes["where"]) =>
  syncFilter({ state: types, timeline: types, limit: 1, ...(where === undefined ? {} : { where }) });
