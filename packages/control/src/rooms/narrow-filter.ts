/** Filters for one /sync of a command, which passes state events of a few types. */

const none = { types: [] };

/**
 * A filter for /sync that passes state events of these types and nothing else. Synapse answers an equal request of the same
 * device from a cache for two minutes, so each filter differs in a part that matches no event.
 */
export const narrowFilter = (types: readonly string[], where: object = {}) => ({
  presence: { ...none, not_types: [crypto.randomUUID()] },
  account_data: none,
  room: {
    ...where,
    ephemeral: none,
    account_data: none,
    state: { types },
    timeline: { types, limit: 1 },
  },
});
