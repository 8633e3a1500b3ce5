/** `bureau matrix room list`: the rooms the session's user is in. */
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
  const rooms = await Promise.all(
    (await session.joinedRooms()).map(async (room) => {
      const [alias, name] = await Promise.all([
        session.getState(room, "m.room.canonical_alias", ""),
        session.getState(room, "m.room.name", ""),
      ]);
      return { room_id: room, alias: textOf(alias, "alias"), name: textOf(name, "name") };
    }),
  );
  rooms.sort((a, b) => (a.alias < b.alias ? -1 : 1));
  if (invocation.flags.json) terminal.json({ rooms });
  else
    terminal.table(
      ["ALIAS", "NAME", "ROOM"],
      rooms.map((room) => [room.alias, room.name, room.room_id]),
    );
}

function textOf(content: unknown, field: string): string {
  const value =
    typeof content === "object" && content !== null ? (content as Record<string, unknown>)[field] : undefined;
  return typeof value === "string" ? value : "";
}
