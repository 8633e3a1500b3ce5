/** `bureau matrix room list`: the rooms the session's user is in. */
import { joinedRooms } from "@bureau/control/rooms/joined-rooms";
import { defineCommand, defineFlags, type Invocation } from "../../command/command.ts";
import { openSession } from "../../command/operator.ts";
import { jsonFlag, sessionFlags } from "../../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag });
type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary: "List the rooms you are in",
  flags,
  examples: ["bureau matrix room list"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const rooms = await joinedRooms(session);
  if (invocation.flags.json) terminal.json({ rooms });
  else
    terminal.table(
      ["ALIAS", "NAME", "ROOM"],
      rooms.map((room) => [room.alias, room.name, room.room_id]),
    );
}
