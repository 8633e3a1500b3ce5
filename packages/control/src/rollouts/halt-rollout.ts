/** Halts a rollout: it begins nothing more, and machines that are upgrading finish. */
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import type { FleetLocalpart } from "@bureau/schema/refs";
import type { Rollout } from "@bureau/schema/rollout";
import { roomOfFleet } from "../rooms/places.ts";
import { currentRollout } from "./rollout-controller.ts";
import { asHalted } from "./rollout-plan.ts";
import { readRollout, writeRollout } from "./rollout-store.ts";

type Fleet = { readonly session: MatrixSession; readonly fleet: FleetLocalpart; readonly clock: Clock };

/**
 * Returns the rollout as its machines report it. A rollout that is halted already stays as it is.
 * @throws BureauError `not-found`, `conflict` when it is over
 */
export async function haltRollout({ session, fleet, clock }: Fleet, id: string): Promise<Rollout> {
  const place = { room: await roomOfFleet(session, fleet), id };
  const stored = await readRollout(session, place);
  const { state } = stored.rollout;
  if (state === "done" || state === "rolled-back")
    throw new BureauError("conflict", `The rollout "${id}" is over: ${state}`);
  const written =
    state === "halted"
      ? stored.rollout
      : await writeRollout(session, place, stored, asHalted(stored.rollout, clock.now()));
  // Only reported, not written: a controller that has written what it begins, and is about to ask for it, goes first.
  return currentRollout({ session, fleet, clock }, written);
}
