/**
 * What the daemon asks /sync for. All state of the rooms it is in, because start conditions may name any of it, but
 * neither the chatter of rooms nor the heartbeats of other machines, which would wake it all the time.
 */
import { eventTypes } from "@bureau/schema/events";

const none = { types: [] };
const noise = [eventTypes.machineStatus, eventTypes.message];

export const syncFilter = {
  presence: none,
  account_data: none,
  room: {
    ephemeral: none,
    account_data: none,
    state: { not_types: noise },
    /** Events per room and answer (wire facts, section 12.1). */
    timeline: { not_types: noise, limit: 50 },
  },
} as const;
