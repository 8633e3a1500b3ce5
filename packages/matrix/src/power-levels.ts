/** Changes power levels: read, change, write; repeated after a concurrent change (wire facts, section 2.4). */
import type { Clock } from "@bureau/kit/clock";
import { eventTypes, type PowerLevels, PowerLevelsSchema } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import type { RoomId } from "@bureau/schema/refs";
import { MatrixError } from "./matrix-error.ts";
import type { MatrixSession } from "./session.ts";

const ATTEMPTS_MAX = 5;
const JITTER_FIRST_MS = 50;

/**
 * Sets the given levels and keeps all other fields, also those that this version does not know. Writes nothing when the
 * levels are set already.
 */
export async function changePowerLevels(
  session: Pick<MatrixSession, "getState" | "putState">,
  room: RoomId,
  change: PowerLevels,
  deps: { readonly clock: Clock; readonly random?: () => number },
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const raw = (await session.getState(room, eventTypes.powerLevels, "")) ?? {};
    const levels = parse(PowerLevelsSchema, raw, `power levels of ${room}`);
    const { users: _, events: __, ...rest } = change;
    const isThere = isPart(change.users, levels.users) && isPart(change.events, levels.events);
    if (isThere && isPart(rest, levels)) return;
    const next = {
      ...(raw as object),
      ...rest,
      users: { ...levels.users, ...change.users },
      events: { ...levels.events, ...change.events },
    };
    try {
      await session.putState(room, eventTypes.powerLevels, "", next);
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
