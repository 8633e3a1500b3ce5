/**
 * The kinds of rooms of namespaces, fleets and machines, and their power levels: wire facts, sections 2.1 to 2.3, as data.
 * The administrator, who makes them, has full power. A machine has 50 in its own two rooms. Rooms that it shares do not
 * name it: an entry for each machine would fill the event of the levels, and be sent to every machine again with each
 * that joins. What machines write there, their own facts, is open to members; readers check the sender
 * (schema/event-writers).
 */
import { eventTypes, type PowerLevels } from "@bureau/schema/events";

/** Only an administrator may change these, in every room (section 2.2). */
const adminProtected = [
  "m.room.avatar",
  "m.room.canonical_alias",
  "m.room.encryption",
  "m.room.history_visibility",
  "m.room.join_rules",
  "m.room.name",
  "m.room.power_levels",
  "m.room.server_acl",
  "m.room.tombstone",
  "m.room.topic",
  "m.space.child",
  eventTypes.devTeam,
] as const;

export const roomKinds = [
  "space",
  "system",
  "template",
  "pipeline",
  "artifact",
  "dev",
  "lobby",
  "fleet",
  "fleet-machines",
  "fleet-services",
  "config",
  "ops",
] as const;
export type RoomKind = (typeof roomKinds)[number];

type Levels = {
  readonly events_default: number;
  readonly state_default: number;
  readonly invite: number;
  readonly redact: number;
  readonly events?: Readonly<Record<string, number>>;
  /** What the machine of its own room holds; absent: 0. */
  readonly machine?: number;
};

const bureau = (...types: string[]): string[] => types.map((type) => `m.bureau.${type}`);
const at = (level: number, types: readonly string[]): Record<string, number> =>
  Object.fromEntries(types.map((type) => [type, level]));

const open: Levels = { events_default: 0, state_default: 100, invite: 100, redact: 50 };

const levels: Readonly<Record<RoomKind, Levels>> = {
  space: open,
  template: open,
  dev: open,
  lobby: { ...open, invite: 50 },
  system: { ...open, invite: 50, events: at(0, [eventTypes.tokenSigningKey]) },
  pipeline: {
    events_default: 100,
    state_default: 100,
    invite: 100,
    redact: 100,
    events: at(100, bureau("pipeline")),
  },
  artifact: { events_default: 100, state_default: 100, invite: 100, redact: 100 },
  fleet: {
    ...open,
    events: {
      ...at(0, bureau("ha_lease", "service_status", "fleet_alert")),
      ...at(
        100,
        bureau(
          "fleet_service",
          "machine_definition",
          "fleet_config",
          "fleet_cache",
          "environment_build",
          "provenance_roots",
          "provenance_policy",
          "rollout",
        ),
      ),
    },
  },
  "fleet-machines": {
    ...open,
    events: at(0, [
      eventTypes.machineKey,
      eventTypes.machineInfo,
      eventTypes.machineStatus,
      ...bureau("webrtc_offer", "webrtc_answer"),
    ]),
  },
  "fleet-services": { ...open, invite: 50, events: at(0, [eventTypes.service]) },
  config: {
    events_default: 100,
    // The wire has 0 here and for layouts: then every member may write unlisted types (decision 31).
    state_default: 50,
    invite: 50,
    redact: 100,
    machine: 50,
    events: {
      ...at(100, [
        eventTypes.credentials,
        eventTypes.credentialKeys,
        eventTypes.machineDecommission,
        eventTypes.authorization,
        eventTypes.temporalGrant,
      ]),
      ...at(50, [eventTypes.machineConfig, eventTypes.machineConfigPage]),
      ...at(50, [eventTypes.machineVersion, eventTypes.machineDecommissioned]),
      ...at(50, [eventTypes.serviceBinding, ...bureau("layout")]),
      // The reference cannot write its own audit events here (section 13, number 10): machines hold 50.
      ...at(50, [eventTypes.audit]),
      // An agent service of the reference that was let in keeps its sessions here.
      ...at(0, [eventTypes.message, ...bureau("agent_session", "agent_context", "agent_metrics")]),
    },
  },
  ops: {
    events_default: 100,
    state_default: 100,
    invite: 100,
    redact: 100,
    machine: 50,
    events: {
      ...at(25, bureau("ticket", "ticket_config", "relay_link", "drain_status")),
      ...at(50, bureau("reservation", "machine_drain")),
      ...at(100, bureau("relay_policy")),
      ...at(0, [eventTypes.message, ...bureau("service_ready")]),
    },
  },
};

/** What a machine holds in rooms of this kind. */
export const machineLevel = (kind: RoomKind): number => levels[kind].machine ?? 0;

/**
 * The `m.room.power_levels` that a room of this kind is created with, without `users`: the homeserver gives the creator all
 * power, in the way of the room's version.
 */
export function powerLevels(kind: RoomKind): PowerLevels {
  const room = levels[kind];
  return {
    users_default: 0,
    events: { ...at(100, adminProtected), ...room.events },
    events_default: room.events_default,
    state_default: room.state_default,
    invite: room.invite,
    kick: 100,
    ban: 100,
    redact: room.redact,
    notifications: { room: room.redact },
  };
}

/** Types that are not state: their default level is that of events. */
const timelineTypes: ReadonlySet<string> = new Set([
  eventTypes.message,
  eventTypes.audit,
  ...bureau("service_ready"),
]);

/**
 * The levels of its kind that an existing room lacks; undefined when it lacks none. Stricter levels stay, and so do types
 * that we do not know.
 */
export function missingLevels(kind: RoomKind, there: PowerLevels): PowerLevels | undefined {
  const wanted = powerLevels(kind);
  const { events_default = 0, state_default = 50 } = there;
  const lacks = ([type, level]: [string, number]): boolean => {
    const named = there.events?.[type];
    if (named !== undefined) return named < level;
    const isState = !timelineTypes.has(type);
    const now = isState ? state_default : events_default;
    const next = Math.max(now, (isState ? wanted.state_default : wanted.events_default) ?? 0);
    // Types that stay open must be named when the default is raised.
    return now < level || (level < next && now < next);
  };
  const events = Object.entries(wanted.events ?? {}).filter(lacks);
  const lacking = {
    ...(events_default < (wanted.events_default ?? 0) ? { events_default: wanted.events_default } : {}),
    ...(state_default < (wanted.state_default ?? 0) ? { state_default: wanted.state_default } : {}),
    ...((there.users_default ?? 0) > 0 ? { users_default: 0 } : {}),
    ...below(there, wanted, { invite: 0, kick: 50, ban: 50, redact: 50 }),
    ...(events.length > 0 ? { events: Object.fromEntries(events) } : {}),
  };
  return Object.keys(lacking).length > 0 ? lacking : undefined;
}

type Act = "invite" | "kick" | "ban" | "redact";

/** Acts for which less is asked than `wanted` asks; `defaults` are the API's. */
function below(
  there: PowerLevels,
  wanted: PowerLevels,
  defaults: Readonly<Record<Act, number>>,
): Partial<Record<Act, number>> {
  return Object.fromEntries(
    (Object.keys(defaults) as Act[])
      .filter((act) => (there[act] ?? defaults[act]) < (wanted[act] ?? 0))
      .map((act) => [act, wanted[act]]),
  );
}
