/** `bureau rollout halt`: a rollout begins nothing more; machines under way finish. */

import { currentRollout } from "@bureau/control/rollouts/rollout-controller";
import { haltRollout, isUnderWay } from "@bureau/control/rollouts/rollout-plan";
import { readRollout, writeRollout } from "@bureau/control/rollouts/rollout-store";
import { roomOfFleet } from "@bureau/control/rooms/places";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { defaultFleet, openSession } from "../command/operator.ts";
import { sayNext } from "../command/say-next.ts";
import { countsOf, rolloutJson } from "./rollout-report.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const fleet = defaultFleet(invocation);
  const place = { room: await roomOfFleet(session, fleet), id: invocation.args[0] ?? "" };
  const stored = await readRollout(session, place);
  const { state } = stored.rollout;
  if (state === "done" || state === "rolled-back")
    throw new BureauError("conflict", `The rollout "${place.id}" is over: ${state}`);
  const written =
    state === "halted"
      ? stored.rollout
      : await writeRollout(session, place, stored, haltRollout(stored.rollout, systemClock.now()));
  // Only shown: a driver that has written what it begins, and is about to ask for it, is not contradicted.
  const stands = await currentRollout({ session, fleet, clock: systemClock }, written);
  if (booleanFlag(invocation, "json")) terminal.json(rolloutJson(place.id, stands));
  else {
    terminal.print(`${place.id} is ${stands.state}: ${countsOf(stands)}`);
    if (stands.machines.some(isUnderWay))
      sayNext(terminal, `bureau rollout show ${place.id} shows how the running upgrades end`);
  }
}
