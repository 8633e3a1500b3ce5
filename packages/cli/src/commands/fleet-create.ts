/** `bureau fleet create`: the rooms of a fleet. */
import { parseFleet, parseUserId } from "@bureau/schema/refs";
import { booleanFlag, type Invocation, listFlag } from "../command/command.ts";
import { runStep } from "../command/run-step.ts";
import { ensureFleet } from "../instance/namespace-setup.ts";
import { openSession } from "../instance/operator.ts";
import { requireAccounts } from "../instance/people.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const fleet = parseFleet(invocation.args[0] ?? "");
  const invitees = listFlag(invocation, "invite").map(parseUserId);
  const session = openSession(invocation);
  await requireAccounts(session, invitees);
  const made = await runStep(terminal, `Rooms of ${fleet}`, ({ note }) =>
    ensureFleet(session, fleet, invitees, note),
  );
  if (booleanFlag(invocation, "json"))
    terminal.json({
      fleet,
      ...{ fleet_room: made.fleet, machine_room: made.machines, service_room: made.services },
    });
}
