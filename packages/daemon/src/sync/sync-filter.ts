/**
 * What the daemon asks /sync for. All state of the rooms it is in, because start conditions may name any of it, but
 * neither the chatter of rooms nor the heartbeats of other machines, which would wake it all the time.
 *
 * Synapse answers the same question of the same device from memory for two minutes. A daemon that is started again would
 * be told what was so then, and after that relive, one answer after the other, what has happened since: it would obey
 * requests that were withdrawn. So every daemon's filter differs, in a part that asks for nothing.
 */
import { randomUUID } from "node:crypto";
import { eventTypes } from "@bureau/schema/events";

const none = { types: [] };
const noise = [eventTypes.machineStatus, eventTypes.message];

export const newSyncFilter = () => ({
  presence: { ...none, not_types: [randomUUID()] },
  account_data: none,
  room: {
    ephemeral: none,
    account_data: none,
    state: { not_types: noise },
    /** Events per room and answer (wire facts, section 12.1). */
    timeline: { not_types: noise, limit: 50 },
  },
});
