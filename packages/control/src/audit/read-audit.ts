/**
 * Reads audit events of a fleet's machines from their config rooms. One /sync has the newest of every room; a room whose
 * older events are asked for is read further by pages.
 */
import { parseTimelineEvents, type TimelineEvent } from "@bureau/matrix/event";
import type { MatrixSession } from "@bureau/matrix/session";
import { syncFilter } from "@bureau/matrix/sync-filter";
import type { JoinedRoomUpdate, SyncResponse } from "@bureau/matrix/sync-response";
import { type AuditRecord, AuditRecordSchema, ChainedAuditSchema } from "@bureau/schema/audit";
import { eventTypes } from "@bureau/schema/events";
import {
  type FleetLocalpart,
  fleetOf,
  localpartOf,
  type MachineLocalpart,
  parseMachine,
  parseUserId,
  type RoomId,
  rooms,
} from "@bureau/schema/refs";
import * as v from "valibot";
import { roomOf } from "../rooms/places.ts";

/** Synapse gives no more of a timeline by its default (filter_timeline_limit). */
const TIMELINE_MAX = 100;
const PAGE = 500;
/** Pages of one room that a query reads: some 50,000 events. */
const PAGES_MAX = 100;
const POLL_MS = 30_000;

const ShownSchema = v.object({
  ...AuditRecordSchema.entries,
  time: v.optional(ChainedAuditSchema.entries.time),
  last_time: ChainedAuditSchema.entries.last_time,
  count: v.optional(ChainedAuditSchema.entries.count, 1),
  sequence: v.optional(ChainedAuditSchema.entries.sequence),
});

/** One event. `time` is the machine's; a machine of another implementation has the homeserver's. */
export type AuditEntry = Omit<AuditRecord, "machine"> & {
  /** Full localpart. */
  readonly machine: MachineLocalpart;
  readonly event_id: string;
  /** RFC 3339: when the act was decided, or the first of `count` equal ones. */
  readonly time: string;
  readonly last_time?: string | undefined;
  readonly count: number;
  readonly sequence?: number | undefined;
};

export type AuditQuery = {
  readonly fleet: FleetLocalpart;
  /** Undefined: every machine of the fleet whose room the session may read. */
  readonly machine?: MachineLocalpart | undefined;
  /** A user ID: its own acts, and acts on it. */
  readonly principal?: string | undefined;
  /** Milliseconds since the epoch. */
  readonly since?: number | undefined;
  /** The newest so many. */
  readonly limit: number;
};

export type AuditPage = {
  /** Oldest first. */
  readonly entries: readonly AuditEntry[];
  /** For {@link followAudit}. */
  readonly position: string;
};

/** @throws BureauError `not-found` for an unknown machine */
export async function readAudit(session: MatrixSession, query: AuditQuery): Promise<AuditPage> {
  const filter = await filterOf(session, query);
  const answer = await session.sync({ timeoutMs: 0, filter });
  const entries = await Promise.all(
    [...answer.joined].map(([room, update]) => entriesOf(session, room, update, query)),
  );
  return { entries: newest(entries.flat(), query), position: answer.nextBatch };
}

/** Calls `onEntries` with events that come after `position`, until `signal` aborts. */
export async function followAudit(
  session: MatrixSession,
  query: AuditQuery,
  position: string,
  onEntries: (entries: readonly AuditEntry[]) => void,
  signal: AbortSignal,
): Promise<void> {
  const filter = await filterOf(session, query);
  let since = position;
  while (!signal.aborted) {
    let answer: SyncResponse;
    try {
      answer = await session.sync({ since, timeoutMs: POLL_MS, filter, signal });
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
    since = answer.nextBatch;
    const entries = [...answer.joined.values()].flatMap(({ timeline }) => matching(timeline, query));
    if (entries.length > 0) onEntries(newest(entries, query));
  }
}

async function filterOf(session: MatrixSession, { machine }: AuditQuery) {
  const where =
    machine === undefined ? {} : { where: { rooms: [await roomOf(session, rooms.config(machine))] } };
  return syncFilter({ state: [], timeline: [eventTypes.audit], limit: TIMELINE_MAX, ...where });
}

/** What a room has for the query: from its newest events, else from pages. */
async function entriesOf(
  session: MatrixSession,
  room: RoomId,
  { timeline, limited }: JoinedRoomUpdate,
  query: AuditQuery,
): Promise<readonly AuditEntry[]> {
  const found = matching(timeline, query);
  if (!limited || found.length >= query.limit || timeline.length === 0 || isBefore(timeline[0], query))
    return found;
  const all: AuditEntry[] = [];
  let from: string | undefined;
  for (let page = 0; page < PAGES_MAX && all.length < query.limit; page++) {
    const { chunk, end } = await session.messages(room, {
      limit: PAGE,
      types: [eventTypes.audit],
      ...(from === undefined ? {} : { from }),
    });
    const events = parseTimelineEvents(chunk);
    all.push(...matching(events, query));
    if (end === undefined || end === from || isBefore(events.at(-1), query)) break;
    from = end;
  }
  return all;
}

const isBefore = (event: TimelineEvent | undefined, { since }: AuditQuery): boolean =>
  event !== undefined && since !== undefined && event.sentAt < since;

const newest = (entries: readonly AuditEntry[], { limit }: AuditQuery): readonly AuditEntry[] =>
  [...entries].sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0)).slice(-limit);

const matching = (events: readonly TimelineEvent[], query: AuditQuery): AuditEntry[] =>
  events.flatMap((event) => {
    const entry = entryOf(event);
    return entry !== undefined && matches(entry, query) ? [entry] : [];
  });

function matches(entry: AuditEntry, { fleet, machine, principal, since }: AuditQuery): boolean {
  return (
    fleetOf(entry.machine) === fleet &&
    (machine === undefined || entry.machine === machine) &&
    (principal === undefined || entry.actor === principal || entry.target === principal) &&
    (since === undefined || Date.parse(entry.last_time ?? entry.time) >= since)
  );
}

/** Undefined for an event that no machine wrote about itself. */
function entryOf({ content, sender, eventId, sentAt }: TimelineEvent): AuditEntry | undefined {
  const parsed = v.safeParse(ShownSchema, content);
  const machine = machineOf(sender);
  if (!parsed.success || machine === undefined) return undefined;
  const { machine: named, time = new Date(sentAt).toISOString(), ...entry } = parsed.output;
  if (named !== sender && named !== machine) return undefined;
  return { ...entry, machine, event_id: eventId, time };
}

function machineOf(sender: string): MachineLocalpart | undefined {
  try {
    return parseMachine(localpartOf(parseUserId(sender)));
  } catch {
    return undefined;
  }
}
