/** `bureau rollout resume`: continues a rollout that was interrupted or halted. */
import { continueRollout } from "@bureau/control/rollouts/begin-rollout";
import { systemClock } from "@bureau/kit/clock";
import { defineCommand, defineFlags, definePositionals } from "../command/command.ts";
import { defaultFleet, openSession, type SessionChoice } from "../command/operator.ts";
import { type FleetValue, fleetFlag, jsonFlag, sessionFlags } from "../command/shared-flags.ts";
import { controlRollout, lockRollout } from "./control-rollout.ts";

export const command = defineCommand({
  summary: "Continue a rollout that was interrupted or halted",
  details:
    "Machines that failed or were skipped are tried again. Ctrl-C ends only this command; the rollout's state is in\nMatrix, so any operator can continue it from any host (docs/rollouts.md).",
  positionals: definePositionals([{ name: "rollout", summary: "Its ID (bureau rollout list)" }]),
  flags: defineFlags({ ...sessionFlags, ...jsonFlag, ...fleetFlag }),
  examples: ["bureau rollout resume 20260131-093000-4f2a"],
  run: (invocation) => resumeRollout(invocation, invocation.args.rollout),
});

type Asked = SessionChoice & { readonly flags: FleetValue & { readonly json: boolean } };

export async function resumeRollout(invocation: Asked, id: string): Promise<number> {
  const session = openSession(invocation);
  const fleet = defaultFleet(invocation);
  using opened = await continueRollout({ session, fleet, id, clock: systemClock, lock: lockRollout });
  return await controlRollout(invocation, { session, fleet, place: opened.place, rollout: opened.rollout });
}
