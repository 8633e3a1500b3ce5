/** `bureau matrix user create`: an account that a person logs in to, in the rooms where people meet. */

import { createPerson, invitePerson, personOf, personRooms } from "@bureau/control/rooms/people";
import { BureauError } from "@bureau/kit/errors";
import { runStep } from "@bureau/kit/run-step";
import { readNamedSecret } from "@bureau/os/named-file";
import { askPassword } from "../../command/ask-password.ts";
import { booleanFlag, type Invocation, stringFlag } from "../../command/command.ts";
import {
  accountKeysIfAtHand,
  namespaceOfInvocation,
  openSession,
  serverAdmin,
} from "../../command/operator.ts";
import { asTyped } from "../../command/typed-command.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const user = personOf(session, invocation.args[0] ?? "");
  const isOperator = booleanFlag(invocation, "operator");
  const admin = serverAdmin(invocation);
  const file = stringFlag(invocation, "password-file");
  const password = file === undefined ? await askPassword(user) : readNamedSecret(file, "the password file");
  const places = await personRooms(session, namespaceOfInvocation(invocation), isOperator);
  const own = await runStep(terminal, `Account ${user}`, () =>
    createPerson({
      ...{ session, user, password, admin },
      keys: accountKeysIfAtHand(invocation),
    }),
  );
  await runStep(terminal, isOperator ? "Its rooms and its power there" : "Its rooms", async () => {
    await invitePerson(session, user, places, isOperator);
    for (const room of places) await own.joinRoom(room);
  }).catch((error: unknown) => {
    throw new BureauError("failed", `The account "${user}" exists, but is not in all its rooms`, {
      cause: error,
      hint: `as the administrator: bureau matrix user invite ${user}${isOperator ? " --operator" : ""}`,
    });
  });
  await own.logout();
  if (booleanFlag(invocation, "json")) terminal.json({ user_id: user, operator: isOperator, rooms: places });
  else {
    terminal.print(user);
    terminal.say(
      asTyped(`\nType next, as that person: bureau login ${user} --homeserver ${session.homeserver}`),
    );
  }
}
