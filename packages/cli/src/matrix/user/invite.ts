/** `bureau matrix user invite`: invites a person who has an account to the rooms of the namespace. */

import { invitePerson, personOf, personRooms, requireAccounts } from "@bureau/control/rooms/people";
import { booleanFlag, type Invocation } from "../../command/command.ts";
import { namespaceOfInvocation, openSession } from "../../command/operator.ts";
import { asTyped } from "../../command/typed-command.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const user = personOf(session, invocation.args[0] ?? "");
  await requireAccounts(session, [user]);
  const isOperator = booleanFlag(invocation, "operator");
  const places = await personRooms(session, namespaceOfInvocation(invocation), isOperator);
  const invited = await invitePerson(session, user, places, isOperator);
  if (booleanFlag(invocation, "json")) terminal.json({ user_id: user, operator: isOperator, invited });
  else if (invited.length === 0)
    terminal.print(`${user} is in all of the ${places.length} rooms, or invited`);
  else {
    terminal.print(`${user} is invited to ${invited.length} rooms`);
    terminal.say(asTyped("\nType next, as that person: bureau matrix room join"));
  }
}
