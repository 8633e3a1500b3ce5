/**
 * Rollouts in a fleet's room. Two controllers may write over each other: what one has not seen is merged with its own.
 *
 * An event holds some ninety machines. A larger rollout has further events, its parts, made in full before the first: a
 * rollout exists once its first event does. A machine stays in its part. Each entry stands for itself, so a controller that
 * ends between two writes leaves what a smaller plan would have left; the first event, with the state of the whole, is
 * written last.
 */
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { instead } from "@bureau/kit/nearest";
import { EDIT_ATTEMPTS_MAX, keepsChanging, replaceState, type StateContent } from "@bureau/matrix/edit-state";
import type { StateEvent } from "@bureau/matrix/event";
import { jsonBytes } from "@bureau/matrix/event-content";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import type { RoomId } from "@bureau/schema/refs";
import {
  type Rollout,
  RolloutFirstSchema,
  type RolloutMachine,
  RolloutPartSchema,
  RolloutSchema,
} from "@bureau/schema/rollout";
import { safeParse } from "valibot";
import { randomHex } from "../digest.ts";
import { stateOfTypes } from "../rooms/state-of-types.ts";
import { mergeRollouts } from "./rollout-plan.ts";

/** An event has 64 KiB (Matrix specification, size limits); some of it is not content. */
const CONTENT_BYTES_MAX = 60_000;
/** What the entry of a machine grows by until it has ended: request, paths, timestamps, a reason. */
const GROWTH_BYTES = 520;
/** A rollout is then some hundred events. */
const MACHINES_MAX = 10_000;

export type RolloutPlace = { readonly room: RoomId; readonly id: string };
/** An event of a rollout, the first or a further one, and how many machines it holds. */
type Part = { readonly key: string; readonly eventId: string; readonly count: number };
export type StoredRollout = {
  readonly id: string;
  readonly rollout: Rollout;
  /** In order; the first event first. Its machines are the rollout's, one part after the other. */
  readonly parts: readonly Part[];
  /** State key of the first part that is missing or unreadable; the machines from there on are unknown. */
  readonly missing?: string;
};

/** The time and a random suffix: `20260131-093000-4f2a`. */
export const newRolloutId = (clock: Clock): string =>
  `${new Date(clock.now()).toISOString().slice(0, 19).replace(/[-:]/gu, "").replace("T", "-")}-${randomHex(2)}`;

const partKey = (id: string, index: number): string => (index === 0 ? id : `${id}/${index}`);

/** The rollouts that can be read, newest first. One request, which the members of the room are no part of. */
export async function listRollouts(session: MatrixSession, room: RoomId): Promise<StoredRollout[]> {
  const state = await stateOfTypes(session, room, [eventTypes.rollout]);
  const events = new Map(
    state.flatMap((event) => (event.type === eventTypes.rollout ? [[event.stateKey, event] as const] : [])),
  );
  return [...events.values()]
    .flatMap((first) => assembled(first, events) ?? [])
    .sort((a, b) => (a.rollout.started_at < b.rollout.started_at ? 1 : -1));
}

/** Undefined for an event that is not the first of a rollout. */
function assembled(
  { stateKey: id, eventId, content }: StateEvent,
  events: ReadonlyMap<string, StateEvent>,
): StoredRollout | undefined {
  const first = safeParse(RolloutFirstSchema, content);
  if (!first.success) return undefined;
  const { parts: further = 0, ...head } = first.output;
  const machines = [...head.machines];
  const parts: Part[] = [{ key: id, eventId, count: machines.length }];
  for (;;) {
    const next = events.get(partKey(id, parts.length));
    const part = safeParse(RolloutPartSchema, next?.content);
    if (next === undefined || !part.success) break;
    machines.push(...part.output.machines);
    parts.push({ key: next.stateKey, eventId: next.eventId, count: part.output.machines.length });
  }
  const rollout = { ...head, machines };
  return parts.length > further
    ? { id, rollout, parts }
    : { id, rollout, parts, missing: partKey(id, parts.length) };
}

/** @throws BureauError as {@link pickRollout} */
export async function readRollout(session: MatrixSession, place: RolloutPlace): Promise<StoredRollout> {
  return pickRollout(await listRollouts(session, place.room), place.id);
}

/** @throws BureauError `not-found`; `failed` when a part of it is missing */
export function pickRollout(stored: readonly StoredRollout[], wanted: string): StoredRollout {
  const found = stored.find(({ id }) => id === wanted);
  if (found?.missing !== undefined)
    throw new BureauError(
      "failed",
      `Cannot read all machines of the rollout "${wanted}": its event "${found.missing}" is missing or unreadable`,
      { hint: "start another one for what remains: bureau machine upgrade --all" },
    );
  if (found !== undefined) return found;
  throw new BureauError("not-found", `There is no rollout "${wanted}" in this fleet`, {
    hint: instead(
      wanted,
      stored.map(({ id }) => id),
      { are: "rollouts", list: "bureau rollout list", none: "the fleet has no rollout yet" },
    ),
  });
}

/** @throws BureauError `too-large` when a rollout cannot have that many machines */
export function requireRolloutSize({ machines }: Pick<Rollout, "machines">): void {
  if (machines.length <= MACHINES_MAX) return;
  throw new BureauError(
    "too-large",
    `${machines.length} machines are too many for one rollout: the most is ${MACHINES_MAX}`,
    { hint: "roll out in parts, with --label" },
  );
}

/** @throws BureauError `too-large` as {@link requireRolloutSize} */
export async function createRollout(
  session: MatrixSession,
  place: RolloutPlace,
  rollout: Rollout,
): Promise<void> {
  requireRolloutSize(rollout);
  const contents = contentsOf(rollout, countsFor(rollout));
  for (const [index, content] of [...contents.entries()].reverse())
    await session.putState(place.room, eventTypes.rollout, partKey(place.id, index), content);
}

/** How many machines each event of a new rollout holds. */
function countsFor(rollout: Rollout): number[] {
  const counts = [0];
  let bytes = jsonBytes({ ...rollout, machines: [] });
  for (const machine of rollout.machines) {
    const added = jsonBytes(machine) + GROWTH_BYTES;
    if (bytes + added > CONTENT_BYTES_MAX && counts[counts.length - 1] !== 0) {
      counts.push(0);
      bytes = 0;
    }
    counts[counts.length - 1] = (counts[counts.length - 1] ?? 0) + 1;
    bytes += added;
  }
  return counts;
}

/** The content of each event. */
function contentsOf(rollout: Rollout, counts: readonly number[]): StateContent[] {
  let from = 0;
  return counts.map((count, index) => {
    const machines: RolloutMachine[] = rollout.machines.slice(from, from + count);
    from += count;
    const parts = counts.length > 1 ? { parts: counts.length - 1 } : {};
    return index === 0 ? { ...rollout, machines, ...parts } : { machines };
  });
}

/**
 * Writes the next state of `base`. Returns what was written, merged with what others wrote in between, also into events that
 * this does not change: of an operator who halts and a controller that begins a machine, at least one learns of the other.
 */
export async function writeRollout(
  session: MatrixSession,
  place: RolloutPlace,
  base: StoredRollout,
  next: Rollout,
): Promise<Rollout> {
  const known = new Set<string>();
  let [read, wanted] = [base, next];
  for (let attempt = 0; attempt < EDIT_ATTEMPTS_MAX; attempt++) {
    const unseen = await writeParts(session, place.room, read, wanted, known);
    const hasOneEvent = read.parts.length === 1;
    if (hasOneEvent && unseen.length === 0) return wanted;
    const merged = unseen.reduce(mergeRollouts, wanted);
    if (hasOneEvent && JSON.stringify(merged) === JSON.stringify(wanted)) return wanted;
    read = await readRollout(session, place);
    const all = mergeRollouts(merged, read.rollout);
    if (JSON.stringify(all) === JSON.stringify(wanted)) return wanted;
    wanted = all;
  }
  throw keepsChanging(`the rollout "${place.id}"`, `bureau machine upgrade --resume ${place.id}`);
}

/** Writes the events that change, the first one last. Returns what others wrote into them meanwhile. */
async function writeParts(
  session: MatrixSession,
  room: RoomId,
  read: StoredRollout,
  wanted: Rollout,
  known: Set<string>,
): Promise<Rollout[]> {
  const counts = read.parts.map(({ count }) => count);
  const before = contentsOf(read.rollout, counts);
  const unseen: Rollout[] = [];
  for (const [index, content] of [...contentsOf(wanted, counts).entries()].reverse()) {
    const part = read.parts[index];
    if (part === undefined || JSON.stringify(content) === JSON.stringify(before[index])) continue;
    const event = { room, type: eventTypes.rollout, key: part.key };
    const replaced = await replaceState(session, event, part.eventId, content, known);
    if (replaced.unseen === undefined) continue;
    const theirs = replaced.unseen.content;
    unseen.push(
      index === 0
        ? parse(RolloutSchema, theirs, "rollout")
        : { ...wanted, ...parse(RolloutPartSchema, theirs, "part of a rollout") },
    );
  }
  return unseen;
}
