/**
 * The events of a machine's configuration: `machine_config`, and the pages with the assignments that do not fit into it
 * (schema/config-pages). Decides which of them an assignment goes into. An edit writes one of them; only an assignment that
 * outgrows its event moves, and is then in both for a moment: the first one counts, so its sandbox keeps running.
 */
import { BureauError } from "@bureau/kit/errors";
import { readState, type StateBase, type StateContent, type StatePlace } from "@bureau/matrix/edit-state";
import { jsonBytes } from "@bureau/matrix/event-content";
import type { MatrixSession } from "@bureau/matrix/session";
import { assignedUser } from "@bureau/schema/assigned-user";
import { CONFIG_PAGES_MAX, configPageKey, joinEntries } from "@bureau/schema/config-pages";
import { eventTypes, isCleared, MachineConfigSchema } from "@bureau/schema/events";
import type { RoomId, UserId } from "@bureau/schema/refs";
import * as v from "valibot";
import type { StateReader } from "../rooms/room-snapshot.ts";

export type ConfigPlace = { readonly room: RoomId; readonly key: string };

/** An event, which may not exist yet. */
export type ConfigPart = StateBase & { readonly at: StatePlace };

/**
 * Bytes of content up to which an event takes further assignments; other fields of `machine_config` need room too. Pages take
 * fewer: each edit sends its whole event to the machine.
 */
const FILL_BYTES_MAX = { config: 56_000, page: 48_000 } as const;

/** Bytes of content up to which an assignment may grow in its place. A whole event has 65,536, its envelope included. */
export const PART_BYTES_MAX = 62_000;

/** Bytes of one assignment: it fits into a page of its own. */
export const ASSIGNMENT_BYTES_MAX = PART_BYTES_MAX - 32;

/** `machine_config` first, whether it exists or not; then every page. */
export async function readConfigParts(session: StateReader, place: ConfigPlace): Promise<ConfigPart[]> {
  const verdicts = new Map<string, Promise<boolean>>();
  // The same users may write all of them.
  const counts: StateReader["counts"] = (room, event) => {
    const verdict = verdicts.get(event.sender) ?? session.counts(room, event);
    verdicts.set(event.sender, verdict);
    return verdict;
  };
  const read = async (at: StatePlace): Promise<ConfigPart> => ({
    at,
    ...(await readState({ stateEvent: session.stateEvent.bind(session), counts }, at)),
  });
  const [config, first] = await Promise.all([read(configAt(place)), read(pageAt(place, 1))]);
  const pages = [first];
  // As many again at once: few requests in a row for many pages, and none for none.
  while (pages.at(-1)?.eventId !== undefined && pages.length < CONFIG_PAGES_MAX) {
    const more = Math.min(pages.length, CONFIG_PAGES_MAX - pages.length);
    const numbers = Array.from({ length: more }, (_, index) => pages.length + index + 1);
    pages.push(...(await Promise.all(numbers.map((number) => read(pageAt(place, number))))));
  }
  const end = pages.findIndex(({ eventId }) => eventId === undefined);
  return [config, ...pages.slice(0, end === -1 ? undefined : end)];
}

const configAt = ({ room, key }: ConfigPlace): StatePlace => ({ room, type: eventTypes.machineConfig, key });

const pageAt = ({ room }: ConfigPlace, number: number): StatePlace => ({
  room,
  type: eventTypes.machineConfigPage,
  key: configPageKey(number),
});

export const isPage = ({ type }: StatePlace): boolean => type === eventTypes.machineConfigPage;

/** The entries of all events in their order, each principal once. @throws BureauError when a list cannot be read */
export function allEntries(parts: readonly ConfigPart[]): readonly unknown[] {
  const [config] = parts;
  // Other implementations clear all of a machine by an empty machine_config; they know no pages.
  if (config === undefined || isClearedPart(config)) return [];
  return joinEntries(parts.map(({ content, at }) => entriesOf(content, at.type))).entries;
}

export const isClearedPart = ({ eventId, content }: StateBase): boolean =>
  eventId !== undefined && isCleared(content);

/**
 * Call it before a write into `machine_config`, whose event is `base`. When another implementation cleared it, its pages
 * count for nothing; the write would bring them back, so this empties them.
 */
export async function emptyClearedPages(
  session: MatrixSession,
  at: StatePlace,
  base: StateBase,
): Promise<void> {
  if (isPage(at) || !isClearedPart(base)) return;
  const [, ...pages] = await readConfigParts(session, at);
  for (const page of pages)
    if (entriesOf(page.content, page.at.type).length > 0)
      await session.putState(page.at.room, page.at.type, page.at.key, { principals: [] });
}

/** An edit of assignments writes all other fields back unchanged, also invalid ones. */
export function entriesOf(
  content: StateContent,
  type: string = eventTypes.machineConfig,
): readonly unknown[] {
  const parsed = v.safeParse(v.object({ principals: MachineConfigSchema.entries.principals }), content);
  if (parsed.success) return parsed.output.principals;
  throw new BureauError(
    "invalid-input",
    `The assignments in ${type} cannot be read: "principals" is not a list`,
    { hint: "bureau machine config MACHINE shows the faults; with --repair it restores the last list" },
  );
}

/** What is written where: `entry` undefined removes the principal's entry. */
export type PartEdit = { readonly at: StatePlace; readonly base?: StateBase; readonly entry: unknown };

/** No part has room for an assignment. */
export type NoRoom = { readonly bytes: number; readonly assigned: number };

/**
 * The edits, in the order in which they are written, that leave the principal with `entry` in one place; `entry` undefined:
 * in none. Pure.
 */
export function planEdits(
  parts: readonly ConfigPart[],
  place: ConfigPlace,
  principal: UserId,
  entry: unknown,
): readonly PartEdit[] | NoRoom {
  const [config] = parts;
  const counting = config !== undefined && isClearedPart(config) ? [config] : parts;
  const holders = counting.filter(({ content, at }) =>
    entriesOf(content, at.type).some((one) => assignedUser(one) === principal),
  );
  const remove = (part: ConfigPart): PartEdit => ({ at: part.at, base: part, entry: undefined });
  if (entry === undefined) return holders.map(remove);
  const [current] = holders;
  const bytes = jsonBytes(entry);
  const before =
    current === undefined
      ? 0
      : jsonBytes(entriesOf(current.content).filter((one) => assignedUser(one) === principal));
  const isKept = current !== undefined && jsonBytes(current.content) - before + bytes <= PART_BYTES_MAX;
  const target = isKept ? current : partWithRoom(parts, place, bytes);
  if (target === undefined) return { bytes, assigned: allEntries(parts).length };
  const others = holders.filter((part) => part.at.key !== target.at.key).map(remove);
  return [{ at: target.at, base: target, entry }, ...others];
}

function partWithRoom(
  parts: readonly ConfigPart[],
  place: ConfigPlace,
  bytes: number,
): ConfigPart | undefined {
  const hasRoom = ({ content, at }: ConfigPart): boolean => {
    // An assignment larger than an event's share has an event of its own. An emptied event serves as well as a new one.
    if (entriesOf(content, at.type).length === 0)
      return jsonBytes({ ...content, principals: [] }) + bytes <= PART_BYTES_MAX;
    return jsonBytes(content) + bytes + 1 <= (isPage(at) ? FILL_BYTES_MAX.page : FILL_BYTES_MAX.config);
  };
  const found = parts.find(hasRoom);
  if (found !== undefined || parts.length > CONFIG_PAGES_MAX) return found;
  const fresh = { at: pageAt(place, parts.length), eventId: undefined, content: {}, isClean: true };
  return bytes <= ASSIGNMENT_BYTES_MAX ? fresh : undefined;
}
