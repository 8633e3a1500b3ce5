/** `bureau rollout show`: one rollout and each of its machines. */
import { currentRollout } from "@bureau/control/rollouts/rollout-controller";
import { readRollout } from "@bureau/control/rollouts/rollout-store";
import { roomOfFleet } from "@bureau/control/rooms/places";
import { withAge } from "@bureau/kit/age";
import { systemClock } from "@bureau/kit/clock";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { defaultFleet, openSession } from "../command/operator.ts";
import { fleetFlag, jsonFlag, rolloutPositional, sessionFlags } from "../command/shared-flags.ts";
import { countsOf, printRollout, rolloutJson, versionOf } from "./rollout-report.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...fleetFlag });
const positionals = definePositionals([rolloutPositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Show how far a rollout is, machine by machine",
  positionals,
  flags,
  examples: ["bureau rollout show 20260131-093000-4f2a"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const fleet = defaultFleet(invocation);
  const room = await roomOfFleet(session, fleet);
  const { id, rollout: written } = await readRollout(session, { room, id: invocation.args.rollout });
  const rollout = await currentRollout({ session, fleet, clock: systemClock }, written);
  if (invocation.flags.json) {
    terminal.json(rolloutJson(id, rollout));
    return;
  }
  const selector =
    rollout.selector === "all"
      ? "all machines"
      : Object.entries(rollout.selector)
          .map(([key, value]) => `${key}=${value}`)
          .join(" ");
  terminal.print(`${id} is ${rollout.state}: ${countsOf(rollout)}`);
  terminal.print(
    rollout.version === undefined
      ? rollout.host_environment_path
      : `${versionOf(rollout)} (${rollout.host_environment_path})`,
  );
  terminal.print(
    `${selector}, started ${withAge(rollout.started_at, systemClock.now())} by ${rollout.requested_by}\n`,
  );
  printRollout(terminal, rollout);
}
