/** `bureau rollout halt`: a rollout starts no more upgrades; running upgrades finish. */
import { haltRollout } from "@bureau/control/rollouts/halt-rollout";
import { isUnderWay } from "@bureau/control/rollouts/rollout-plan";
import { systemClock } from "@bureau/kit/clock";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { defaultFleet, openSession } from "../command/operator.ts";
import { sayNext } from "../command/say-next.ts";
import { fleetFlag, jsonFlag, rolloutPositional, sessionFlags } from "../command/shared-flags.ts";
import { countsOf, rolloutJson } from "./rollout-report.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...fleetFlag });
const positionals = definePositionals([rolloutPositional]);
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
  const id = invocation.args.rollout;
  const rollout = await haltRollout({ session, fleet, clock: systemClock }, id);
  if (invocation.flags.json) terminal.json(rolloutJson(id, rollout));
  else {
    terminal.print(`${id} is ${rollout.state}: ${countsOf(rollout)}`);
    if (rollout.machines.some(isUnderWay))
      sayNext(terminal, `bureau rollout show ${id} shows how the running upgrades end`);
  }
}
