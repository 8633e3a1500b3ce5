/**
 * A state event that several people write: read, change, write. Matrix has no compare-and-set, so each write looks at
 * which event it replaced: when that was not the one it had read, somebody else wrote in between, and what they changed
 * is put back on top. What nobody changed stays as it came, known to us or not.
 *
 * Of two at the same moment nothing is lost. Of three it may be: when one writes on what it read before another's write,
 * a third cannot tell that from taking back what the other wrote. Whoever shares a host takes turns (os/file-lock).
 */
import { canonicalJson } from "@bureau/kit/canonical-json";
import { BureauError } from "@bureau/kit/errors";
import { type EventId, parseEventId, type RoomId } from "@bureau/schema/refs";
import type { MatrixSession } from "./session.ts";

export type StateContent = Readonly<Record<string, unknown>>;

export type StatePlace = { readonly room: RoomId; readonly type: string; readonly key: string };

/** How one type of event is changed: `apply` makes a change, `difference` is the change that somebody made. */
export type Editing<Change> = {
  readonly apply: (content: StateContent, change: Change) => StateContent;
  readonly difference: (before: StateContent, after: StateContent) => Change;
};

type ReplacingSession = Pick<MatrixSession, "putState" | "getEvent" | "messages" | "counts">;

export type EditingSession = ReplacingSession & Pick<MatrixSession, "stateEvent">;

/** Somebody else's write between ours and the check is rare; ten in a row is a fight. */
export const EDIT_ATTEMPTS_MAX = 10;

/** As many events of one type are looked through for those that came in between. */
const BETWEEN_MAX = 100;

export type Replaced = {
  readonly eventId: EventId;
  readonly sentAt?: number;
  /** What somebody else wrote in between, and whether that was before ours. */
  readonly unseen?: { readonly content: StateContent; readonly isEarlier: boolean };
};

/**
 * Writes what was made of the event `read`; undefined when there was none. Returns what somebody else had written in
 * between, and was replaced unseen: nothing, as a rule. `known` are events that this edit has dealt with; its own are added.
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
  // Of the same content again, homeservers make no event.
  if (eventId === read) return { eventId };
  const written = await session.getEvent(place.room, eventId);
  if (written === undefined) return { eventId };
  const { sentAt, replaces } = written;
  const hasReplaced = replaces !== undefined && replaces !== read && !known.has(replaces);
  const missed = hasReplaced ? replaces : await findBeside(session, place, read, known);
  if (missed === undefined) return { eventId, sentAt };
  known.add(missed);
  const theirs = await session.getEvent(place.room, parseEventId(missed));
  if (theirs === undefined) return { eventId, sentAt };
  const event = { ...theirs, type: place.type, stateKey: place.key, eventId: missed };
  // What does not count is replaced and nothing more.
  if (!(await session.counts(place.room, event))) return { eventId, sentAt };
  const isEarlier = theirs.sentAt < sentAt || (theirs.sentAt === sentAt && missed < eventId);
  return { eventId, sentAt, unseen: { content: theirs.content, isEarlier } };
}

/**
 * A homeserver that takes in several events of a room at once (Synapse does, up to five) lets two of them replace the
 * same one, and then decides which stands. Whoever comes second finds the other in the room's timeline.
 */
async function findBeside(
  session: Pick<MatrixSession, "messages">,
  { room, type, key }: StatePlace,
  read: string | undefined,
  known: ReadonlySet<string>,
): Promise<string | undefined> {
  const { chunk } = await session.messages(room, { limit: BETWEEN_MAX, types: [type] });
  for (const event of chunk) {
    const id = event["event_id"];
    if (id === read) return undefined;
    if (event["type"] !== type || event["state_key"] !== key || typeof id !== "string") continue;
    if (!known.has(id)) return id;
  }
  return undefined;
}

/** The error of whoever has lost {@link EDIT_ATTEMPTS_MAX} times. */
export const keepsChanging = (what: string, hint = "try again"): BureauError =>
  new BureauError("conflict", `Somebody else keeps changing ${what}`, { hint });

/** What stands there, whether it had to be written, and when that was, by the homeserver's clock in milliseconds. */
export type Edited = {
  readonly content: StateContent;
  readonly written: boolean;
  readonly sentAt?: number | undefined;
};

/**
 * Of two that change the same thing at the same moment, the first one's stays.
 * @throws BureauError `conflict` when somebody else keeps writing
 */
export async function editState<Change>(
  session: EditingSession,
  place: StatePlace,
  wanted: Change,
  { apply, difference }: Editing<Change>,
): Promise<Edited> {
  const known = new Set<string>();
  // Ours stays among them: of two events that replace the same one, the other may be the one that stands.
  let changes = [wanted];
  let lastSentAt: number | undefined;
  for (let attempt = 0; attempt < EDIT_ATTEMPTS_MAX; attempt++) {
    const base = await readState(session, place);
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
async function readState(
  session: EditingSession,
  { room, type, key }: StatePlace,
): Promise<{
  readonly eventId: string | undefined;
  readonly content: StateContent;
  readonly isClean: boolean;
}> {
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
