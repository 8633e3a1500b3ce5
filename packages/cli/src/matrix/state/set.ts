/** `bureau matrix state set`: writes one state event. */
import { readNamed } from "@bureau/os/named-file";
import { jsonObject, parseJson } from "@bureau/schema/parse";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../../command/command.ts";
import { openSession, roomArgument } from "../../command/operator.ts";
import { jsonFlag, roomPositional, sessionFlags } from "../../command/shared-flags.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  key: { type: "string", value: "KEY", mayBeEmpty: true, summary: "State key (default: empty)" },
});
const positionals = definePositionals([
  roomPositional,
  { name: "type", summary: "Event type" },
  { name: "content", summary: 'JSON object, or "-" for standard input' },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Write a state event",
  positionals,
  flags,
  examples: [`bureau matrix state set bureau/lobby m.room.topic '{"topic":"Say hello"}'`],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const session = openSession(invocation);
  const { room: typed, type, content: text } = invocation.args;
  const content = parseJson(jsonObject, text === "-" ? readNamed("-", "the content") : text, "event content");
  const room = await roomArgument(session, typed);
  const event = await session.putState(room, type, invocation.flags.key ?? "", content);
  if (invocation.flags.json) invocation.terminal.json({ room_id: room, event_id: event });
  else invocation.terminal.print(event);
}
