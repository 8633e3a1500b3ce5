/** `bureau matrix messages`: the last messages of a room, oldest first. */
import { BureauError } from "@bureau/kit/errors";
import { booleanFlag, type Invocation, stringFlag } from "../command/command.ts";
import { openSession, roomArgument } from "../command/operator.ts";

const LIMIT_DEFAULT = 20;

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const typedLimit = stringFlag(invocation, "limit");
  const limit = typedLimit === undefined ? LIMIT_DEFAULT : Number(typedLimit);
  if (!Number.isInteger(limit) || limit < 1)
    throw new BureauError("invalid-input", `--limit "${typedLimit}" is not a positive whole number`);
  const room = await roomArgument(session, invocation.args[0] ?? "");
  const { chunk } = await session.messages(room, { dir: "b", limit });
  const messages = chunk.filter((event) => event["type"] === "m.room.message").reverse();
  if (booleanFlag(invocation, "json")) {
    terminal.json({ room_id: room, messages });
    return;
  }
  for (const message of messages) {
    const content = message["content"] as { body?: unknown } | undefined;
    const at =
      typeof message["origin_server_ts"] === "number"
        ? new Date(message["origin_server_ts"]).toISOString()
        : "";
    // Indented, the lines of one message cannot pass for another's.
    const body = String(content?.body ?? "").replaceAll("\n", "\n    ");
    terminal.print(`${terminal.style.dim(at)} ${String(message["sender"])}: ${body}`);
  }
}
