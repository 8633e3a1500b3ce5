/** `bureau matrix state get`: the current state of a room as JSON, from every sender. */
import { BureauError } from "@bureau/kit/errors";
import {
  defineCommand,
  defineFlags,
  definePositionals,
  type Invocation,
  UsageError,
} from "../../command/command.ts";
import { openSession, roomArgument } from "../../command/operator.ts";
import { jsonFlag, roomPositional, sessionFlags } from "../../command/shared-flags.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  key: {
    type: "string",
    value: "KEY",
    mayBeEmpty: true,
    summary: "State key: print only that event's content",
  },
});
const positionals = definePositionals([
  roomPositional,
  { name: "type", summary: "Event type", optional: true },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Print state of a room: all of it, a type, or one event",
  positionals,
  flags,
  examples: ["bureau matrix state get bureau/template m.bureau.template --key agent"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const { room: typed, type } = invocation.args;
  const key = invocation.flags.key;
  if (type === undefined && key !== undefined)
    throw new UsageError(
      `The state key "${key}" needs an event type`,
      `bureau matrix state get ${typed} TYPE --key KEY`,
    );
  const room = await roomArgument(session, typed);
  if (type !== undefined && key !== undefined) {
    const event = await session.stateEvent(room, type, key);
    if (event === undefined)
      throw new BureauError("not-found", `There is no ${type} with key "${key}" in ${typed}`, {
        hint: `bureau matrix state get ${typed} ${type}`,
      });
    terminal.json(event.content);
    return;
  }
  const state = await session.wholeState(room);
  terminal.json(type === undefined ? state : state.filter((event) => event.type === type));
}
