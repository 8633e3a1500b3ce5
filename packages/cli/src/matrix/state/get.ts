/** `bureau matrix state get`: the current state of a room as JSON, from every sender. */
import { BureauError } from "@bureau/kit/errors";
import { type Invocation, stringFlag, UsageError } from "../../command/command.ts";
import { openSession, roomArgument } from "../../command/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const [typed = "", type] = invocation.args;
  const key = stringFlag(invocation, "key");
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
