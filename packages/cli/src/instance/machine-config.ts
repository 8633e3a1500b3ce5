/**
 * A machine's desired state, edited from outside: read, change, write. Entries that are not ours to understand go back
 * as they came. Matrix has no compare-and-set. Writers of one user on one host take turns by a file lock; against all
 * others each write looks at which event it replaced: when that was not the one it had read, somebody else wrote in
 * between, and what they changed is put back on top.
 */

import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { waitForFileLock } from "@bureau/kit/file-lock";
import { userLockFile } from "@bureau/kit/layout";
import type { MatrixSession } from "@bureau/matrix/session";
import {
  eventTypes,
  MachineConfigSchema,
  type PrincipalAssignment,
  PrincipalAssignmentSchema,
} from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import {
  type MachineLocalpart,
  parseEventId,
  type RoomId,
  rooms,
  serverOf,
  stateKeyOf,
  type UserId,
  userIdOf,
} from "@bureau/schema/refs";
import { safeParse } from "valibot";
import { roomOf } from "./namespace-setup.ts";

/** Somebody else's write between ours and the check is rare; ten in a row is a fight. */
const ATTEMPTS_MAX = 10;
/** An edit takes milliseconds; whoever holds the lock longer is stuck, and the check after the write is there still. */
const LOCK_MS_MAX = 5_000;

export type ConfigPlace = { readonly room: RoomId; readonly key: string };

/** Where a machine's desired state is written. @throws BureauError `not-found` for an unknown machine */
export async function configPlace(session: MatrixSession, machine: MachineLocalpart): Promise<ConfigPlace> {
  const server = serverOf(session.userId);
  return { room: await roomOf(session, rooms.config(machine)), key: stateKeyOf(userIdOf(machine, server)) };
}

/** The assignments of a machine that can be read; `unreadable` counts the rest. */
export async function readAssignments(
  session: MatrixSession,
  place: ConfigPlace,
): Promise<{ assignments: PrincipalAssignment[]; unreadable: number }> {
  const { entries } = await readRaw(session, place);
  const assignments = entries.flatMap((entry) => {
    const parsed = safeParse(PrincipalAssignmentSchema, entry);
    return parsed.success ? [parsed.output] : [];
  });
  return { assignments, unreadable: entries.length - assignments.length };
}

/** Adds or replaces (`assignment`) or removes (undefined) the entry of one principal. True when something changed. */
export async function editAssignment(
  session: MatrixSession,
  place: ConfigPlace,
  principal: UserId,
  assignment: PrincipalAssignment | undefined,
): Promise<boolean> {
  using _turn = await waitForFileLock(userLockFile("config", process.env), LOCK_MS_MAX, systemClock);
  let edit: Edit = new Map([[principal, assignment]]);
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const base = await readRaw(session, place);
    const next = applyEdit(base.entries, edit);
    if (JSON.stringify(next) === JSON.stringify(base.entries)) return attempt > 0;
    const written = await session.putState(place.room, eventTypes.machineConfig, place.key, {
      ...base.content,
      principals: next,
    });
    const replaced = (await session.getEvent(place.room, written))?.replaces;
    if (replaced === base.eventId) return true;
    const theirs =
      replaced === undefined ? undefined : await session.getEvent(place.room, parseEventId(replaced));
    if (theirs === undefined) return true;
    edit = difference(
      base.entries,
      parse(MachineConfigSchema, theirs.content, "machine configuration").principals,
    );
  }
  throw new BureauError("conflict", "Somebody else keeps changing the machine's configuration", {
    hint: "try again",
  });
}

/** Principal → its new entry, or undefined to remove it. */
type Edit = ReadonlyMap<string, unknown>;

const nameOf = (entry: unknown): string | undefined =>
  typeof entry === "object" && entry !== null && "principal" in entry && typeof entry.principal === "string"
    ? entry.principal
    : undefined;

/** Entries in their order, edited ones in place, new ones last. */
export function applyEdit(entries: readonly unknown[], edit: Edit): unknown[] {
  const seen = new Set(entries.map(nameOf));
  const kept = entries.flatMap((entry) => {
    const name = nameOf(entry);
    if (name === undefined || !edit.has(name)) return [entry];
    const changed = edit.get(name);
    return changed === undefined ? [] : [changed];
  });
  const added = [...edit]
    .filter(([name, entry]) => entry !== undefined && !seen.has(name))
    .map(([, entry]) => entry);
  return [...kept, ...added];
}

/** What somebody changed on the way from `before` to `after`. */
export function difference(before: readonly unknown[], after: readonly unknown[]): Edit {
  const index = (entries: readonly unknown[]): Map<string, unknown> =>
    new Map(entries.flatMap((entry) => (nameOf(entry) === undefined ? [] : [[nameOf(entry) ?? "", entry]])));
  const [old, now] = [index(before), index(after)];
  const changed = [...now].filter(([name, entry]) => JSON.stringify(old.get(name)) !== JSON.stringify(entry));
  const removed = [...old.keys()]
    .filter((name) => !now.has(name))
    .map((name): [string, unknown] => [name, undefined]);
  return new Map([...changed, ...removed]);
}

async function readRaw(
  session: MatrixSession,
  place: ConfigPlace,
): Promise<{ eventId: string | undefined; content: Readonly<Record<string, unknown>>; entries: unknown[] }> {
  const state = await session.getRoomState(place.room);
  const event = state.find(
    ({ type, stateKey }) => type === eventTypes.machineConfig && stateKey === place.key,
  );
  const content = event?.content ?? {};
  const config = parse(MachineConfigSchema, content, "machine configuration");
  return { eventId: event?.eventId, content, entries: config.principals };
}
