/** `bureau matrix user list`: the people who can log in. */

import { listPeople } from "@bureau/control/rooms/people";
import { booleanFlag, type Invocation } from "../../command/command.ts";
import { namespaceOfInvocation, openSession, serverAdmin } from "../../command/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const people = await listPeople(session, namespaceOfInvocation(invocation), serverAdmin(invocation));
  if (booleanFlag(invocation, "json"))
    terminal.json({
      users: people.map(({ userId, isAdmin, isClosed }) => ({
        user_id: userId,
        ...(isAdmin === undefined ? {} : { server_admin: isAdmin, closed: isClosed }),
      })),
    });
  else
    terminal.table(
      ["USER", "ACCOUNT"],
      people.map(({ userId, isAdmin, isClosed }) => [
        userId,
        isAdmin === undefined ? "member" : isClosed ? "closed" : isAdmin ? "server admin" : "open",
      ]),
    );
}
