/** `bureau matrix room create`: a private room with an alias. */
import { aliasOf, parseLocalpart, parseUserId, serverOf } from "@bureau/schema/refs";
import { booleanFlag, type Invocation, listFlag, stringFlag } from "../command/command.ts";
import { openSession } from "../instance/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const session = openSession(invocation);
  const localpart = parseLocalpart(invocation.args[0] ?? "", "room alias localpart");
  const name = stringFlag(invocation, "name");
  const topic = stringFlag(invocation, "topic");
  const room = await session.createRoom({
    room_alias_name: localpart,
    preset: "private_chat",
    visibility: "private",
    invite: listFlag(invocation, "invite").map(parseUserId),
    ...(name === undefined ? {} : { name }),
    ...(topic === undefined ? {} : { topic }),
  });
  const alias = aliasOf(localpart, serverOf(session.userId));
  if (booleanFlag(invocation, "json")) invocation.terminal.json({ room_id: room, alias });
  else invocation.terminal.print(`${room} ${alias}`);
}
