/** `bureau matrix state set`: writes one state event. */

import { readNamed } from "@bureau/os/named-file";
import { jsonObject, parseJson } from "@bureau/schema/parse";
import { booleanFlag, type Invocation, stringFlag } from "../../command/command.ts";
import { openSession, roomArgument } from "../../command/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const session = openSession(invocation);
  const [typed = "", type = "", text = ""] = invocation.args;
  const content = parseJson(jsonObject, text === "-" ? readNamed("-", "the content") : text, "event content");
  const room = await roomArgument(session, typed);
  const event = await session.putState(room, type, stringFlag(invocation, "key") ?? "", content);
  if (booleanFlag(invocation, "json")) invocation.terminal.json({ room_id: room, event_id: event });
  else invocation.terminal.print(event);
}
