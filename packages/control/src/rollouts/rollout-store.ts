/** Rollouts in a fleet's room. Two controllers may write over each other: what one has not seen is merged with its own. */
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { instead } from "@bureau/kit/nearest";
import { EDIT_ATTEMPTS_MAX, keepsChanging, replaceState } from "@bureau/matrix/edit-state";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import type { RoomId } from "@bureau/schema/refs";
import { type Rollout, RolloutSchema } from "@bureau/schema/rollout";
import { safeParse } from "valibot";
import { randomHex } from "../digest.ts";
import { mergeRollouts } from "./rollout-plan.ts";

/** An event has 64 KiB (Matrix specification, size limits); some of it is not content. */
const CONTENT_BYTES_MAX = 60_000;
/** What the entry of a machine grows by until it has ended: request, paths, timestamps, a reason. */
const GROWTH_BYTES = 520;

export type RolloutPlace = { readonly room: RoomId; readonly id: string };
export type StoredRollout = { readonly id: string; readonly eventId: string; readonly rollout: Rollout };

/** The time and a random suffix: `20260131-093000-4f2a`. */
export const newRolloutId = (clock: Clock): string =>
  `${new Date(clock.now()).toISOString().slice(0, 19).replace(/[-:]/gu, "").replace("T", "-")}-${randomHex(2)}`;

/** The rollouts that can be read, newest first. */
export async function listRollouts(session: MatrixSession, room: RoomId): Promise<StoredRollout[]> {
  const state = await session.getRoomState(room);
  return state
    .flatMap(({ type, stateKey, eventId, content }): StoredRollout[] => {
      if (type !== eventTypes.rollout) return [];
      const parsed = safeParse(RolloutSchema, content);
      return parsed.success ? [{ id: stateKey, eventId, rollout: parsed.output }] : [];
    })
    .sort((a, b) => (a.rollout.started_at < b.rollout.started_at ? 1 : -1));
}

/** @throws BureauError `not-found` */
export async function readRollout(session: MatrixSession, place: RolloutPlace): Promise<StoredRollout> {
  return pickRollout(await listRollouts(session, place.room), place.id);
}

/** @throws BureauError `not-found` */
export function pickRollout(stored: readonly StoredRollout[], wanted: string): StoredRollout {
  const found = stored.find(({ id }) => id === wanted);
  if (found !== undefined) return found;
  throw new BureauError("not-found", `There is no rollout "${wanted}" in this fleet`, {
    hint: instead(
      wanted,
      stored.map(({ id }) => id),
      { are: "rollouts", list: "bureau rollout list", none: "the fleet has no rollout yet" },
    ),
  });
}

/** @throws BureauError `too-large` when it would outgrow one event */
export async function createRollout(
  session: MatrixSession,
  place: RolloutPlace,
  rollout: Rollout,
): Promise<void> {
  const bytes =
    new TextEncoder().encode(JSON.stringify(rollout)).length + rollout.machines.length * GROWTH_BYTES;
  if (bytes > CONTENT_BYTES_MAX)
    throw new BureauError("too-large", `${rollout.machines.length} machines are too many for one rollout`, {
      hint: "roll out in parts, with --label",
    });
  await session.putState(place.room, eventTypes.rollout, place.id, rollout);
}

/** Writes the next state of `base`. Returns what was written, merged with what others wrote in between. */
export async function writeRollout(
  session: MatrixSession,
  place: RolloutPlace,
  base: StoredRollout,
  next: Rollout,
): Promise<Rollout> {
  const known = new Set<string>();
  let [read, wanted] = [base, next];
  const event = { room: place.room, type: eventTypes.rollout, key: place.id };
  for (let attempt = 0; attempt < EDIT_ATTEMPTS_MAX; attempt++) {
    const { unseen } = await replaceState(session, event, read.eventId, wanted, known);
    if (unseen === undefined) return wanted;
    const merged = mergeRollouts(wanted, parse(RolloutSchema, unseen.content, "rollout"));
    if (JSON.stringify(merged) === JSON.stringify(wanted)) return wanted;
    read = await readRollout(session, place);
    wanted = mergeRollouts(merged, read.rollout);
  }
  throw keepsChanging(`the rollout "${place.id}"`, `bureau machine upgrade --resume ${place.id}`);
}
