/** `bureau rollout halt`: a rollout starts no more upgrades; running upgrades finish. */

import { currentRollout } from "@bureau/control/rollouts/rollout-controller";
import { haltRollout, isUnderWay } from "@bureau/control/rollouts/rollout-plan";
import { readRollout, writeRollout } from "@bureau/control/rollouts/rollout-store";
import { roomOfFleet } from "@bureau/control/rooms/places";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { defaultFleet, openSession } from "../command/operator.ts";
import { sayNext } from "../command/say-next.ts";
import { fleetFlag, jsonFlag, sessionFlags } from "../command/shared-flags.ts";
import { countsOf, rolloutJson } from "./rollout-report.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...fleetFlag });
const positionals = definePositionals([{ name: "rollout", summary: "Its id" }]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Stop starting upgrades; running upgrades finish",
  positionals,
  flags,
  examples: ["bureau rollout halt 20260131-093000-4f2a"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const fleet = defaultFleet(invocation);
  const place = { room: await roomOfFleet(session, fleet), id: invocation.args.rollout };
  const stored = await readRollout(session, place);
  const { state } = stored.rollout;
  if (state === "done" || state === "rolled-back")
    throw new BureauError("conflict", `The rollout "${place.id}" is over: ${state}`);
  const written =
    state === "halted"
      ? stored.rollout
      : await writeRollout(session, place, stored, haltRollout(stored.rollout, systemClock.now()));
  // Not written back: the rollout controller may be about to request an upgrade that it has already recorded.
  const stands = await currentRollout({ session, fleet, clock: systemClock }, written);
  if (invocation.flags.json) terminal.json(rolloutJson(place.id, stands));
  else {
    terminal.print(`${place.id} is ${stands.state}: ${countsOf(stands)}`);
    if (stands.machines.some(isUnderWay))
      sayNext(terminal, `bureau rollout show ${place.id} shows how the running upgrades end`);
  }
}
