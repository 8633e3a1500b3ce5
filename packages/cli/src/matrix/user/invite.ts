/** `bureau matrix user invite`: invites a person who has an account to the rooms of the namespace. */
import {
  invitePerson,
  letOperatorObserve,
  personOf,
  personRooms,
  requireAccounts,
} from "@bureau/control/rooms/people";
import { takeTurn } from "@bureau/os/turn";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../../command/command.ts";
import { namespaceOfInvocation, openSession } from "../../command/operator.ts";
import { fleetFlag, jsonFlag, operatorFlag, sessionFlags } from "../../command/shared-flags.ts";
import { asTyped } from "../../command/typed-command.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...fleetFlag, ...operatorFlag });
const positionals = definePositionals([{ name: "name", summary: "Localpart of the account, or user ID" }]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Invite a person to the namespace's rooms",
  details: "Run it again to invite to rooms created since, such as those of a new machine.",
  positionals,
  flags,
  examples: ["bureau matrix user invite alice", "bureau matrix user invite @bob:example.org --operator"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const user = personOf(session, invocation.args.name);
  await requireAccounts(session, [user]);
  const isOperator = invocation.flags.operator;
  const places = await personRooms(session, namespaceOfInvocation(invocation), isOperator);
  const invited = await invitePerson(session, user, places, isOperator);
  if (isOperator) await letOperatorObserve({ session, takeTurn }, namespaceOfInvocation(invocation), user);
  if (invocation.flags.json) terminal.json({ user_id: user, operator: isOperator, invited });
  else if (invited.length === 0)
    terminal.print(`${user} is in all of the ${places.length} rooms, or invited`);
  else {
    terminal.print(`${user} is invited to ${invited.length} rooms`);
    terminal.say(asTyped("\nType next, as that person: bureau matrix room join"));
  }
}
