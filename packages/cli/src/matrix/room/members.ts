/** `bureau matrix room members`: who has joined a room. */
import { booleanFlag, type Invocation } from "../../command/command.ts";
import { openSession, roomArgument } from "../../command/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const session = openSession(invocation);
  const room = await roomArgument(session, invocation.args[0] ?? "");
  const members = (await session.joinedMembers(room)).sort();
  if (booleanFlag(invocation, "json")) invocation.terminal.json({ room_id: room, members });
  else for (const member of members) invocation.terminal.print(member);
}
