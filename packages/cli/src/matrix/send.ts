/** `bureau matrix send`: a text message to a room. */
import { booleanFlag, type Invocation, UsageError } from "../command/command.ts";
import { openSession, roomArgument } from "../command/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const [typed = "", ...words] = invocation.args;
  if (words.join("").trim() === "")
    throw new UsageError("The message is empty", "bureau matrix send ROOM TEXT");
  const session = openSession(invocation);
  const room = await roomArgument(session, typed);
  const event = await session.sendMessage(room, { msgtype: "m.text", body: words.join(" ") });
  if (booleanFlag(invocation, "json")) invocation.terminal.json({ room_id: room, event_id: event });
  else invocation.terminal.print(event);
}
