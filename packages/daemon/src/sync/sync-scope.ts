/**
 * The daemon's filter for /sync: the types it obeys, and the events that start conditions name. The homeserver sends it no
 * other events, however many members write. The daemon learns the events of conditions only from synced state, so the scope
 * grows; then it syncs from the start again, with a filter that includes the new ones.
 *
 * Synapse caches the response to an equal request of the same device for two minutes. A restarted daemon would get that old
 * state, and then replay all later changes one by one: it would obey withdrawn requests. So every filter differs
 * (matrix/sync-filter).
 */
import type { Keeps } from "@bureau/matrix/room-state";
import { syncFilter } from "@bureau/matrix/sync-filter";
import { eventTypes } from "@bureau/schema/events";

/** A state event by its type and state key, in any room. */
export type StateName = { readonly type: string; readonly stateKey: string };

const obeyed = [
  eventTypes.machineConfig,
  eventTypes.machineConfigPage,
  eventTypes.machineVersion,
  eventTypes.machineDecommission,
  eventTypes.credentials,
  eventTypes.credentialKeys,
  eventTypes.template,
  eventTypes.fleetCache,
  eventTypes.authorization,
  eventTypes.temporalGrant,
  // Which services there are, and which one a role means.
  eventTypes.service,
  eventTypes.serviceBinding,
  // Who may write them.
  eventTypes.powerLevels,
  "m.room.create",
];

export type OpenScope = {
  readonly filter: unknown;
  /** The same for the first request: the state is enough, without the events that led to it. */
  readonly initialFilter: unknown;
  /** The same for the store of responses. */
  readonly keeps: Keeps;
  /** Aborts when there is more to ask for. */
  readonly grown: AbortSignal;
};

export class SyncScope {
  readonly #named = new Map<string, Set<string>>();
  #grown = new AbortController();

  /** These are needed too, from now on. */
  want(names: Iterable<StateName>): void {
    let isNew = false;
    for (const { type, stateKey } of names) {
      const keys = this.#named.get(type) ?? new Set();
      if (obeyed.includes(type) || keys.has(stateKey)) continue;
      this.#named.set(type, keys.add(stateKey));
      isNew = true;
    }
    if (isNew) this.#grown.abort();
  }

  open(): OpenScope {
    this.#grown = new AbortController();
    const named = new Map([...this.#named].map(([type, keys]) => [type, new Set(keys)]));
    const types = [...obeyed, ...named.keys()];
    return {
      filter: filterFor(types, EVENTS_PER_ROOM),
      // Not 0: homeservers disagree about what that means.
      initialFilter: filterFor(types, 1),
      keeps: (type, stateKey) => obeyed.includes(type) || named.get(type)?.has(stateKey) === true,
      grown: this.#grown.signal,
    };
  }
}

/** Events per room and answer (wire facts, section 12.1). */
const EVENTS_PER_ROOM = 50;

/** Synapse leaves a room that we were taken out of out of its answer, unless something in it passes the filter. */
const ownLeaving = [eventTypes.member];

const filterFor = (types: readonly string[], limit: number) =>
  // Messages are commands to this machine; they are answered and not kept.
  syncFilter({
    state: types,
    timeline: [...types, "m.room.redaction", "m.room.message", ...ownLeaving],
    limit,
  });
