/** `bureau matrix send`: a text message to a room. */
import {
  defineCommand,
  defineFlags,
  definePositionals,
  type Invocation,
  UsageError,
} from "../command/command.ts";
import { openSession, roomArgument } from "../command/operator.ts";
import { jsonFlag, roomPositional, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag });
const positionals = definePositionals([roomPositional, { name: "text", summary: "The message", rest: true }]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Send a text message to a room",
  positionals,
  flags,
  examples: ["bureau matrix send bureau/lobby hello"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { room: typed, text: words } = invocation.args;
  if (words.join("").trim() === "")
    throw new UsageError("The message is empty", "bureau matrix send ROOM TEXT");
  const session = openSession(invocation);
  const room = await roomArgument(session, typed);
  const event = await session.sendMessage(room, { msgtype: "m.text", body: words.join(" ") });
  if (invocation.flags.json) invocation.terminal.json({ room_id: room, event_id: event });
  else invocation.terminal.print(event);
}
