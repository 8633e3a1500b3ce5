/** `bureau rollout list`: the rollouts of a fleet, newest first. */
import { currentRollout } from "@bureau/control/rollouts/rollout-controller";
import { listRollouts } from "@bureau/control/rollouts/rollout-store";
import { roomOfFleet } from "@bureau/control/rooms/places";
import { systemClock } from "@bureau/kit/clock";
import { defineCommand, defineFlags, type Invocation } from "../command/command.ts";
import { defaultFleet, openSession } from "../command/operator.ts";
import { fleetFlag, jsonFlag, sessionFlags } from "../command/shared-flags.ts";
import { countsOf, rolloutJson, versionOf } from "./rollout-report.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...fleetFlag });
type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary: "List the rollouts of the fleet",
  flags,
  examples: ["bureau rollout list"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const fleet = defaultFleet(invocation);
  const listed = await listRollouts(session, await roomOfFleet(session, fleet));
  const stored = await Promise.all(
    listed.map(async ({ id, rollout }) => ({
      id,
      rollout: await currentRollout({ session, fleet, clock: systemClock }, rollout),
    })),
  );
  if (invocation.flags.json) {
    terminal.json({ rollouts: stored.map(({ id, rollout }) => rolloutJson(id, rollout)) });
    return;
  }
  terminal.table(
    ["ROLLOUT", "STATE", "VERSION", "MACHINES", "BY"],
    stored.map(({ id, rollout }) => [
      id,
      rollout.state,
      versionOf(rollout),
      countsOf(rollout),
      rollout.requested_by,
    ]),
  );
}
