/**
 * A machine's desired state, edited from outside: read, change, write. Entries that are not ours to understand go back
 * as they came. Matrix has no compare-and-set for state, so the change is read back and made again if somebody else
 * wrote in between.
 */

import { BureauError } from "@bureau/kit/errors";
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
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const { content, entries } = await readRaw(session, place);
    const others = entries.filter((entry) => !isAbout(entry, principal));
    if (assignment === undefined && others.length === entries.length) return false;
    const next = assignment === undefined ? others : [...others, assignment];
    await session.putState(place.room, eventTypes.machineConfig, place.key, { ...content, principals: next });
    const after = await readRaw(session, place);
    if (after.entries.some((entry) => isAbout(entry, principal)) === (assignment !== undefined)) return true;
  }
  throw new BureauError("conflict", "Somebody else keeps changing the machine's configuration", {
    hint: "try again",
  });
}

async function readRaw(
  session: MatrixSession,
  place: ConfigPlace,
): Promise<{ content: Record<string, unknown>; entries: unknown[] }> {
  const raw = (await session.getState(place.room, eventTypes.machineConfig, place.key)) ?? {};
  const config = parse(MachineConfigSchema, raw, "machine configuration");
  return { content: raw as Record<string, unknown>, entries: config.principals };
}

const isAbout = (entry: unknown, principal: UserId): boolean =>
  typeof entry === "object" && entry !== null && "principal" in entry && entry.principal === principal;
