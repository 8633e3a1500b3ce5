/**
 * A state event with several writers: read, change, write. Matrix has no compare-and-set, so each write checks which
 * event it replaced. When that is not the event it read, another user wrote in between, and the edit applies that user's
 * change again. Fields that no writer changed keep their values, also fields that this version does not know.
 *
 * Two concurrent writes lose nothing. Three may: a write based on an older event looks to a third writer like a reversal
 * of the second write. Writers on one host take turns (os/file-lock).
 */
import { canonicalJson } from "@bureau/kit/canonical-json";
import { BureauError } from "@bureau/kit/errors";
import { type EventId, parseEventId, type RoomId } from "@bureau/schema/refs";
import type { MatrixSession } from "./session.ts";

export type StateContent = Readonly<Record<string, unknown>>;

export type StatePlace = { readonly room: RoomId; readonly type: string; readonly key: string };

/** How one type of event is changed: `apply` makes a change, `difference` is the change that another user made. */
export type Editing<Change> = {
  readonly apply: (content: StateContent, change: Change) => StateContent;
  readonly difference: (before: StateContent, after: StateContent) => Change;
};

type ReplacingSession = Pick<MatrixSession, "putState" | "getEvent" | "messages" | "counts">;

export type EditingSession = ReplacingSession & Pick<MatrixSession, "stateEvent">;

/** A concurrent write is rare; ten in a row mean that two programs undo each other's writes. */
export const EDIT_ATTEMPTS_MAX = 10;

/** Events of one type to read at a time in a search for concurrent writes: few at first, since one may have 64 KiB. */
const BETWEEN_PAGES = [4, 16, 80] as const;

/** Two writes that a homeserver accepts at once are at most a request's deadline apart; a margin for slow ones. */
const BESIDE_MS_MAX = 120_000;

export type Replaced = {
  readonly eventId: EventId;
  readonly sentAt?: number;
  /** A concurrent write, and whether the homeserver has it before ours. */
  readonly unseen?: { readonly content: StateContent; readonly isEarlier: boolean };
};

/**
 * Writes new content over the event `read` (undefined: there was no event). Returns the concurrent write that it
 * replaced, if any. `known` holds the events that this edit has handled; adds its own.
 */
export async function replaceState(
  session: ReplacingSession,
  place: StatePlace,
  read: string | undefined,
  content: unknown,
  known: Set<string>,
): Promise<Replaced> {
  const eventId = await session.putState(place.room, place.type, place.key, content);
  known.add(eventId);
  // For unchanged content homeservers create no event.
  if (eventId === read) return { eventId };
  const { sentAt, missed } = await lookBack(session, place, eventId, read, known);
  if (sentAt === undefined) return { eventId };
  if (missed === undefined) return { eventId, sentAt };
  known.add(missed);
  const theirs = await session.getEvent(place.room, parseEventId(missed));
  if (theirs === undefined) return { eventId, sentAt };
  const event = { ...theirs, type: place.type, stateKey: place.key, eventId: missed };
  // An event that does not count is replaced without merging it.
  if (!(await session.counts(place.room, event))) return { eventId, sentAt };
  const isEarlier = theirs.sentAt < sentAt || (theirs.sentAt === sentAt && missed < eventId);
  return { eventId, sentAt, unseen: { content: theirs.content, isEarlier } };
}

/**
 * When the event was sent, and the concurrent write beside it. A homeserver that accepts several events of a room at once
 * (Synapse does, up to five) lets two of them replace the same event, and then decides which is current. The second writer
 * finds the first event in the room's timeline: between its own event and the one it read.
 */
async function lookBack(
  session: Pick<MatrixSession, "messages" | "getEvent">,
  { room, type, key }: StatePlace,
  own: EventId,
  read: string | undefined,
  known: ReadonlySet<string>,
): Promise<{ readonly sentAt?: number; readonly missed?: string }> {
  let written: { readonly sentAt: number; readonly replaces: string | undefined } | undefined;
  let beside: string | undefined;
  for await (const event of newestOf(session, room, type)) {
    if (event.id === own) written = event;
    const isOld = written !== undefined && event.sentAt < written.sentAt - BESIDE_MS_MAX;
    if (event.id === read || isOld) break;
    if (event.key === key && event.id !== own && !known.has(event.id)) beside ??= event.id;
  }
  written ??= await session.getEvent(room, own);
  if (written === undefined) return {};
  const { sentAt, replaces } = written;
  const hasReplaced = replaces !== undefined && replaces !== read && !known.has(replaces);
  const missed = hasReplaced ? replaces : beside;
  return { sentAt, ...(missed === undefined ? {} : { missed }) };
}

/** The newest events of one type. */
async function* newestOf(session: Pick<MatrixSession, "messages">, room: RoomId, type: string) {
  let from: string | undefined;
  for (const limit of BETWEEN_PAGES) {
    const page = { limit, types: [type], ...(from === undefined ? {} : { from }) };
    const { chunk, end } = await session.messages(room, page);
    // A homeserver may ignore the filter.
    yield* chunk.filter((event) => event["type"] === type).map(timelineEvent);
    if (chunk.length === 0 || end === undefined || end === from) return;
    from = end;
  }
}

function timelineEvent(event: Readonly<Record<string, unknown>>) {
  const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
  const { unsigned } = event;
  return {
    id: text(event["event_id"]) ?? "",
    key: event["state_key"],
    sentAt: Number(event["origin_server_ts"]),
    replaces:
      typeof unsigned === "object" && unsigned !== null && "replaces_state" in unsigned
        ? text(unsigned.replaces_state)
        : undefined,
  };
}

/** The error after {@link EDIT_ATTEMPTS_MAX} concurrent writes. */
export const keepsChanging = (what: string, hint = "try again"): BureauError =>
  new BureauError("conflict", `Cannot change ${what}: another user keeps changing it`, { hint });

/** The current content, whether this edit wrote it, and when, by the homeserver's clock in milliseconds. */
export type Edited = {
  readonly content: StateContent;
  readonly written: boolean;
  readonly sentAt?: number | undefined;
};

/**
 * When two edits change the same field at the same moment, the earlier one wins. `read`: the current event, when the caller
 * has just read it.
 * @throws BureauError `conflict` when another user keeps writing
 */
export async function editState<Change>(
  session: EditingSession,
  place: StatePlace,
  wanted: Change,
  { apply, difference }: Editing<Change>,
  read?: StateBase,
): Promise<Edited> {
  const known = new Set<string>();
  // Includes our own: of two events that replace the same one, the other may be current.
  let changes = [wanted];
  let lastSentAt: number | undefined;
  for (let attempt = 0; attempt < EDIT_ATTEMPTS_MAX; attempt++) {
    const base = (attempt === 0 ? read : undefined) ?? (await readState(session, place));
    const content = changes.reduce(apply, base.content);
    if (isSame(content, base.content) && base.isClean)
      return { content, written: attempt > 0, sentAt: lastSentAt };
    const { unseen, sentAt } = await replaceState(session, place, base.eventId, content, known);
    if (unseen === undefined) return { content, written: true, sentAt };
    lastSentAt = sentAt;
    const theirs = difference(base.content, unseen.content);
    changes = unseen.isEarlier ? [...changes, theirs] : [theirs, ...changes];
  }
  throw keepsChanging(`${place.type} of "${place.key}"`);
}

const isSame = (one: StateContent, other: StateContent): boolean =>
  canonicalJson(one) === canonicalJson(other);

/** The current event, by its ID; content of an event that does not count is dropped. */
export type StateBase = {
  /** Undefined: there is none. */
  readonly eventId: string | undefined;
  readonly content: StateContent;
  readonly isClean: boolean;
};

export async function readState(
  session: Pick<EditingSession, "stateEvent" | "counts">,
  { room, type, key }: StatePlace,
): Promise<StateBase> {
  const event = await session.stateEvent(room, type, key);
  if (event === undefined) return { eventId: undefined, content: {}, isClean: true };
  const isClean = await session.counts(room, event);
  return { eventId: event.eventId, content: isClean ? event.content : {}, isClean };
}

/** Field → its new value, or undefined to remove it. */
export type Fields = ReadonlyMap<string, unknown>;

export const applyFields = (content: StateContent, fields: Fields): StateContent =>
  Object.fromEntries(
    [...new Map([...Object.entries(content), ...fields])].filter(([, value]) => value !== undefined),
  );

export const fieldDifference = (before: StateContent, after: StateContent): Fields =>
  new Map(
    [...new Set([...Object.keys(before), ...Object.keys(after)])]
      .filter((name) => canonicalJson(before[name]) !== canonicalJson(after[name]))
      .map((name) => [name, after[name]]),
  );
