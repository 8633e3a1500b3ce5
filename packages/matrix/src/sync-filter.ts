/** The frame of a filter for /sync: nothing but the events of rooms that are named. */

const none = { types: [] };

export type SyncTypes = {
  /** Types of the state part. */
  readonly state: readonly string[];
  /** Types of the timeline, messages among them. */
  readonly timeline: readonly string[];
  /** Events of one room's timeline in one answer. */
  readonly limit: number;
  /** `rooms` or `not_rooms`; absent: all rooms. */
  readonly where?: { readonly rooms?: readonly string[]; readonly not_rooms?: readonly string[] };
};

/**
 * Synapse answers an equal request of the same device from a cache for two minutes. So every filter differs, in a part that
 * matches no event.
 */
export const syncFilter = ({ state, timeline, limit, where }: SyncTypes) => ({
  presence: { ...none, not_types: [crypto.randomUUID()] },
  account_data: none,
  room: {
    ...where,
    ephemeral: none,
    account_data: none,
    state: { types: state },
    timeline: { types: timeline, limit },
  },
});
