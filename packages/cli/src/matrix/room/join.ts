/** `bureau matrix room join`: accepts invitations; without a room it shows them, for a person decides whose to accept. */
import type { StateEvent } from "@bureau/matrix/event";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import type { RoomId } from "@bureau/schema/refs";
import { booleanFlag, type Invocation } from "../../command/command.ts";
import { openSession, roomArgument } from "../../command/operator.ts";
import { sayNext } from "../../command/say-next.ts";

type Open = { readonly room_id: RoomId; readonly alias: string; readonly invited_by: string };

export async function run(invocation: Invocation): Promise<void> {
  const { args, terminal } = invocation;
  const session = openSession(invocation);
  if (args.length === 0) {
    show(invocation, await openInvitations(session));
    return;
  }
  const joined: RoomId[] = [];
  for (const room of args) joined.push(await session.joinRoom(await roomArgument(session, room)));
  if (booleanFlag(invocation, "json")) terminal.json({ joined });
  else for (const room of joined) terminal.print(`Joined ${room}`);
}

function show({ terminal, flags }: Invocation, invitations: readonly Open[]): void {
  if (flags["json"] === true) terminal.json({ invitations });
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
