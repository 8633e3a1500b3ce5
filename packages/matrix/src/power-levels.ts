/** Changes power levels: read, change, write; repeated after a concurrent change (wire facts, section 2.4). */
import type { Clock } from "@bureau/kit/clock";
import { eventTypes, type PowerLevels, PowerLevelsSchema } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import type { RoomId } from "@bureau/schema/refs";
import { MatrixError } from "./matrix-error.ts";
import type { MatrixSession } from "./session.ts";

const ATTEMPTS_MAX = 5;
const JITTER_FIRST_MS = 50;

type Deps = { readonly clock: Clock; readonly random?: () => number };

/**
 * Sets the given levels and keeps all other fields, also those that this version does not know. Writes nothing when the
 * levels are set already.
 */
export const changePowerLevels = (
  session: Pick<MatrixSession, "getState" | "putState">,
  room: RoomId,
  change: PowerLevels,
  deps: Deps,
): Promise<void> =>
  editPowerLevels(
    session,
    room,
    (levels) => {
      const { users: _, events: __, ...rest } = change;
      const isThere = isPart(change.users, levels.users) && isPart(change.events, levels.events);
      if (isThere && isPart(rest, levels)) return undefined;
      const users = { ...levels.users, ...change.users };
      return { ...rest, users, events: { ...levels.events, ...change.events } };
    },
    deps,
  );

/** Replaces the fields that `edit` returns; writes nothing when it returns undefined. */
export async function editPowerLevels(
  session: Pick<MatrixSession, "getState" | "putState">,
  room: RoomId,
  edit: (levels: PowerLevels) => PowerLevels | undefined,
  deps: Deps,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const raw = (await session.getState(room, eventTypes.powerLevels, "")) ?? {};
    const edited = edit(parse(PowerLevelsSchema, raw, `power levels of ${room}`));
    if (edited === undefined) return;
    try {
      await session.putState(room, eventTypes.powerLevels, "", { ...(raw as object), ...edited });
      return;
    } catch (error) {
      const raced = error instanceof MatrixError && error.errcode === "M_FORBIDDEN";
      if (!raced || attempt >= ATTEMPTS_MAX) throw error;
      await deps.clock.sleep((deps.random ?? Math.random)() * JITTER_FIRST_MS * 2 ** attempt);
    }
  }
}

const isPart = (
  wanted: Readonly<Record<string, unknown>> = {},
  present: Readonly<Record<string, unknown>> = {},
) => Object.entries(wanted).every(([name, level]) => present[name] === level);
