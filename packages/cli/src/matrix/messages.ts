/** `bureau matrix messages`: the last messages of a room, oldest first. */
import { BureauError } from "@bureau/kit/errors";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { openSession, roomArgument } from "../command/operator.ts";
import { jsonFlag, roomPositional, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  limit: { type: "string", value: "N", summary: "How many (default: 20)" },
});
const positionals = definePositionals([roomPositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Print the last messages of a room",
  positionals,
  flags,
  examples: ["bureau matrix messages bureau/lobby"],
  run,
});

const LIMIT_DEFAULT = 20;

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const typedLimit = invocation.flags.limit;
  const limit = typedLimit === undefined ? LIMIT_DEFAULT : Number(typedLimit);
  if (!Number.isInteger(limit) || limit < 1)
    throw new BureauError("invalid-input", `--limit "${typedLimit}" is not a positive whole number`);
  const room = await roomArgument(session, invocation.args.room);
  const { chunk } = await session.messages(room, { dir: "b", limit });
  const messages = chunk.filter((event) => event["type"] === "m.room.message").reverse();
  if (invocation.flags.json) {
    terminal.json({ room_id: room, messages });
    return;
  }
  for (const message of messages) {
    const content = message["content"] as { body?: unknown } | undefined;
    const at =
      typeof message["origin_server_ts"] === "number"
        ? new Date(message["origin_server_ts"]).toISOString()
        : "";
    // Indented, so that lines of one message cannot look like another message.
    const body = String(content?.body ?? "").replaceAll("\n", "\n    ");
    terminal.print(`${terminal.style.dim(at)} ${String(message["sender"])}: ${body}`);
  }
}
