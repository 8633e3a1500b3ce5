/** `bureau matrix room members`: the members of a room. */
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../../command/command.ts";
import { openSession, roomArgument } from "../../command/operator.ts";
import { jsonFlag, roomPositional, sessionFlags } from "../../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag });
const positionals = definePositionals([roomPositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "List the members of a room",
  positionals,
  flags,
  examples: ["bureau matrix room members bureau/lobby"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const session = openSession(invocation);
  const room = await roomArgument(session, invocation.args.room);
  const members = (await session.joinedMembers(room)).sort();
  if (invocation.flags.json) invocation.terminal.json({ room_id: room, members });
  else for (const member of members) invocation.terminal.print(member);
}
