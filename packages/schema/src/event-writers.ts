/**
 * Who may write each of our state events. A homeserver lets every member write what the room's levels allow, and rooms
 * of the wire let members write much. So the reader decides which events count: an event from any other sender counts as
 * absent.
 *
 * Matrix keeps one event for each type and key, so a stranger's event still replaces the valid one. Readers ignore it; the
 * owner writes the valid event again.
 */
import { eventTypes } from "./events.ts";
import { ADMIN_LEVEL, MODERATOR_LEVEL } from "./power.ts";

type Writers = {
  /** The user whose state key it is: `localpart:server` (wire facts, section 1.4). The user's server is the key's. */
  readonly owner?: true;
  /** Every user with this power level in the room, at the time of reading. */
  readonly level?: number;
};

type OwnType = Exclude<keyof typeof eventTypes, "member" | "powerLevels" | "message">;

const writers: Readonly<Record<OwnType, Writers>> = {
  // Facts: a machine or a service writes its own.
  machineKey: { owner: true },
  machineStatus: { owner: true },
  machineVersion: { owner: true },
  machineDecommissioned: { owner: true },
  tokenSigningKey: { owner: true },
  service: { owner: true, level: ADMIN_LEVEL },
  /** Operators write its labels into it. */
  machineInfo: { owner: true, level: MODERATOR_LEVEL },
  // Desired state: users with the power in its room.
  machineConfig: { level: MODERATOR_LEVEL },
  machineConfigPage: { level: MODERATOR_LEVEL },
  template: { level: MODERATOR_LEVEL },
  serviceBinding: { level: MODERATOR_LEVEL },
  reservation: { level: MODERATOR_LEVEL },
  machineDrain: { level: MODERATOR_LEVEL },
  credentials: { level: ADMIN_LEVEL },
  credentialKeys: { level: ADMIN_LEVEL },
  machineDecommission: { level: ADMIN_LEVEL },
  credentialRevocation: { level: ADMIN_LEVEL },
  rollout: { level: ADMIN_LEVEL },
  fleetCache: { level: ADMIN_LEVEL },
  authorization: { level: ADMIN_LEVEL },
  /** Every member may propose one; the daemon asks whether its sender may give it (daemon/authorization). */
  temporalGrant: { level: 0 },
  devTeam: { level: ADMIN_LEVEL },
  /** Only as an event of the timeline, from its machine: no state event of this type counts. */
  audit: {},
};

const byType: ReadonlyMap<string, Writers> = new Map(
  Object.entries(writers).map(([name, who]) => [eventTypes[name as OwnType], who]),
);

/** The fields of a state event that decide. */
export type Written = {
  readonly type: string;
  readonly stateKey: string;
  readonly sender: string;
};

/** Whether the type is one of ours, where only events of certain senders count. */
export const isGuarded = (type: string): boolean => byType.has(type);

/** Whether an event counts without regard to power: a foreign type, or the sender's own event. */
export function countsByItself({ type, stateKey, sender }: Written): boolean {
  const who = byType.get(type);
  return who === undefined || (who.owner === true && sender === `@${stateKey}`);
}

/** Whether an event counts; `levelOf` returns a user's power level in its room. */
export function counts(event: Written, levelOf: (user: string) => number): boolean {
  if (countsByItself(event)) return true;
  const level = byType.get(event.type)?.level;
  return level !== undefined && levelOf(event.sender) >= level;
}

/** Whether a user's power can make an event of this type count. */
export const countsByPower = (type: string): boolean => byType.get(type)?.level !== undefined;

/** A sentence that says why an event does not count. */
export function ignoredBecause({ type, stateKey, sender }: Written): string {
  const who = byType.get(type) ?? {};
  const allowed = [
    ...(who.owner === true ? [`@${stateKey}`] : []),
    ...(who.level === undefined ? [] : [`users with the level ${who.level} in the room`]),
  ];
  return `${type} of "${stateKey}" is ignored: ${sender} wrote it, and only ${allowed.join(" and ")} may`;
}
