/** `bureau matrix room join`: accepts invitations; without a room, lists them. */
import type { StateEvent } from "@bureau/matrix/event";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
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

type Open = { readonly room_id: RoomId; readonly alias: string; readonly invited_by: string };

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

function show({ terminal, flags }: Asked, invitations: readonly Open[]): void {
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

/** Invitations alone: no timeline of joined rooms. */
const invitationsOnly = { room: { timeline: { limit: 0 }, state: { types: [] } }, presence: { types: [] } };

async function openInvitations(session: MatrixSession): Promise<Open[]> {
  const { invited } = await session.sync({ timeoutMs: 0, filter: invitationsOnly });
  return [...invited]
    .map(([room_id, events]) => ({
      room_id,
      alias: aliasIn(events),
      invited_by:
        events.find((event) => event.type === eventTypes.member && event.stateKey === session.userId)
          ?.sender ?? "",
    }))
    .sort((a, b) => (a.alias < b.alias ? -1 : 1));
}

function aliasIn(events: readonly StateEvent[]): string {
  const alias = events.find(({ type }) => type === "m.room.canonical_alias")?.content["alias"];
  return typeof alias === "string" ? alias : "";
}
