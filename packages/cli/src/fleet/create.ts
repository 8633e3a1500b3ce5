/** `bureau fleet create`: the rooms of a fleet. */

import { ensureFleet } from "@bureau/control/rooms/namespace-setup";
import { requireAccounts } from "@bureau/control/rooms/people";
import { runStep } from "@bureau/kit/run-step";
import { parseFleet, parseUserId } from "@bureau/schema/refs";
import { booleanFlag, type Invocation, listFlag } from "../command/command.ts";
import { openSession } from "../command/operator.ts";

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
