/** `bureau rollout resume`: continues a rollout that was interrupted or halted. */
import { listRollouts, readRollout } from "@bureau/control/rollouts/rollout-store";
import { roomOfFleet } from "@bureau/control/rooms/places";
import { defineCommand, defineFlags, definePositionals } from "../command/command.ts";
import { defaultFleet, openSession, type SessionChoice } from "../command/operator.ts";
import { type FleetValue, fleetFlag, jsonFlag, sessionFlags } from "../command/shared-flags.ts";
import { drive, lockRollout, reopen, requireNoOther } from "./drive-rollout.ts";

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
  const place = { room: await roomOfFleet(session, fleet), id };
  // Locked before it is read, so that a second command fails here, or sees the result of the first.
  using _lock = lockRollout(place.id);
  const stored = await readRollout(session, place);
  requireNoOther(await listRollouts(session, place.room), (other) => other.id === place.id);
  const rollout = await reopen(session, place, stored);
  return await drive(invocation, { session, fleet, place, rollout });
}
