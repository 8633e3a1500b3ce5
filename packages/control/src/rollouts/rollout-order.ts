/**
 * One rollout runs in a fleet at a time. Matrix has no lock for that: two operators may begin one each at the same moment. So
 * each controller looks for other open rollouts in every round. The earliest, by start, then id, continues; every other
 * halts.
 */
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { asHalted } from "./rollout-plan.ts";
import {
  listRollouts,
  pickRollout,
  type RolloutPlace,
  type StoredRollout,
  writeRollout,
} from "./rollout-store.ts";

/** It may still ask machines for something. */
export const isOpen = ({ rollout }: StoredRollout): boolean =>
  rollout.state === "running" || rollout.state === "rolling-back";

/** The error for a command that must wait until the rollout `id` is over. */
export const notOver = (id: string): BureauError =>
  new BureauError("conflict", `The rollout "${id}" is not over`, {
    hint: `bureau machine upgrade --resume ${id} continues it, bureau rollout halt ${id} stops it`,
  });

/**
 * Reads the rollout at `place`. Halts it when an earlier rollout is open.
 * @throws BureauError `conflict` when it had to halt; `not-found`
 */
export async function readUnlessLater(
  session: MatrixSession,
  place: RolloutPlace,
  clock: Clock,
): Promise<StoredRollout> {
  const stored = await listRollouts(session, place.room);
  const mine = pickRollout(stored, place.id);
  const earlier = isOpen(mine) ? stored.find((one) => isOpen(one) && isEarlier(one, mine)) : undefined;
  if (earlier === undefined) return mine;
  await writeRollout(session, place, mine, asHalted(mine.rollout, clock.now()));
  throw notOver(earlier.id);
}

function isEarlier(one: StoredRollout, two: StoredRollout): boolean {
  const [a, b] = [one.rollout.started_at, two.rollout.started_at];
  return a < b || (a === b && one.id < two.id);
}
