/** `bureau matrix room join`: accepts invitations; without a room, lists them. */
import { type Invitation, openInvitations } from "@bureau/control/rooms/joined-rooms";
import type { RoomId } from "@bureau/schema/refs";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../../command/command.ts";
import { openSession, roomArgument } from "../../command/operator.ts";
import { sayNext } from "../../command/say-next.ts";
import { jsonFlag, sessionFlags } from "../../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag });
const positionals = definePositionals([
  { name: "room", summary: "Alias, its localpart, or room ID", rest: true, optional: true },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Accept invitations; without a room, show those you have",
  positionals,
  flags,
  examples: ["bureau matrix room join", "bureau matrix room join bureau/system bureau/template"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { args, terminal } = invocation;
  const session = openSession(invocation);
  if (args.room.length === 0) {
    show(invocation, await openInvitations(session));
    return;
  }
  const joined: RoomId[] = [];
  for (const room of args.room) joined.push(await session.joinRoom(await roomArgument(session, room)));
  if (invocation.flags.json) terminal.json({ joined });
  else for (const room of joined) terminal.print(`Joined ${room}`);
}

function show({ terminal, flags }: Asked, invitations: readonly Invitation[]): void {
  if (flags.json) terminal.json({ invitations });
  else if (invitations.length === 0) terminal.print("You have no open invitation.");
  else {
    terminal.table(
      ["ALIAS", "INVITED BY", "ROOM"],
      invitations.map((one) => [one.alias, one.invited_by, one.room_id]),
    );
    sayNext(terminal, "bureau matrix room join ROOM… accepts");
  }
}
