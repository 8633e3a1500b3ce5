/** `bureau fleet create`: the rooms of a fleet. */
import { ensureFleet } from "@bureau/control/rooms/namespace-setup";
import { requireAccounts } from "@bureau/control/rooms/people";
import { runStep } from "@bureau/kit/run-step";
import { parseFleet, parseUserId } from "@bureau/schema/refs";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { openSession } from "../command/operator.ts";
import { fleetPositional, jsonFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  invite: { type: "string", value: "USER", multiple: true, summary: "Invite a user ID" },
});
const positionals = definePositionals([fleetPositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Create the rooms of a fleet",
  details: "The namespace must be set up. Run again, it creates what is missing.",
  positionals,
  flags,
  examples: ["bureau fleet create bureau/fleet/prod --invite @alice:bureau.local"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const fleet = parseFleet(invocation.args.fleet);
  const invitees = invocation.flags.invite.map(parseUserId);
  const session = openSession(invocation);
  await requireAccounts(session, invitees);
  const made = await runStep(terminal, `Rooms of ${fleet}`, ({ note }) =>
    ensureFleet(session, fleet, invitees, note),
  );
  if (invocation.flags.json)
    terminal.json({
      fleet,
      fleet_room: made.fleet,
      machine_room: made.machines,
      service_room: made.services,
    });
}
