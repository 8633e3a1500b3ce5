/** `bureau matrix user create`: creates an account for a person, and joins it to the namespace's rooms. */
import {
  createPerson,
  invitePerson,
  letOperatorObserve,
  personOf,
  personRooms,
} from "@bureau/control/rooms/people";
import { BureauError } from "@bureau/kit/errors";
import { runStep } from "@bureau/kit/run-step";
import { readNamedSecret } from "@bureau/os/named-file";
import { takeTurn } from "@bureau/os/turn";
import { askPassword } from "../../command/ask-password.ts";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../../command/command.ts";
import {
  accountKeysIfAtHand,
  namespaceOfInvocation,
  openSession,
  serverAdmin,
} from "../../command/operator.ts";
import {
  adminTokenFlag,
  fleetFlag,
  jsonFlag,
  operatorFlag,
  sessionFlags,
} from "../../command/shared-flags.ts";
import { asTyped } from "../../command/typed-command.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...fleetFlag,
  ...operatorFlag,
  ...adminTokenFlag,
  "password-file": {
    type: "string",
    value: "PATH",
    summary: 'File with its password, "-" for standard input (default: asked for)',
  },
});
const positionals = definePositionals([{ name: "name", summary: "Localpart of the account, such as alice" }]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Create an account for a person",
  details:
    "The person joins the namespace's space and lobby; with --operator also every room of the namespace, its fleets\nand their machines. Needs the registration token (--credential-file) or a server admin.",
  positionals,
  flags,
  examples: ["bureau matrix user create alice", "bureau matrix user create bob --operator"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const user = personOf(session, invocation.args.name);
  const isOperator = invocation.flags.operator;
  const admin = serverAdmin(invocation);
  const file = invocation.flags["password-file"];
  const password = file === undefined ? await askPassword(user) : readNamedSecret(file, "the password file");
  const places = await personRooms(session, namespaceOfInvocation(invocation), isOperator);
  const own = await runStep(terminal, `Account ${user}`, () =>
    createPerson({
      session,
      user,
      password,
      admin,
      keys: accountKeysIfAtHand(invocation),
    }),
  );
  await runStep(terminal, isOperator ? "Its rooms and its power there" : "Its rooms", async () => {
    await invitePerson(session, user, places, isOperator);
    if (isOperator) await letOperatorObserve({ session, takeTurn }, namespaceOfInvocation(invocation), user);
    for (const room of places) await own.joinRoom(room);
  }).catch((error: unknown) => {
    throw new BureauError("failed", `The account "${user}" exists, but is not in all its rooms`, {
      cause: error,
      hint: `as the administrator: bureau matrix user invite ${user}${isOperator ? " --operator" : ""}`,
    });
  });
  await own.logout();
  if (invocation.flags.json) terminal.json({ user_id: user, operator: isOperator, rooms: places });
  else {
    terminal.print(user);
    terminal.say(
      asTyped(`\nType next, as that person: bureau login ${user} --homeserver ${session.homeserver}`),
    );
  }
}
