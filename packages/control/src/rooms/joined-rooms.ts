/** The rooms of a session's user, and its open invitations. */
import type { StateEvent } from "@bureau/matrix/event";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import type { RoomId } from "@bureau/schema/refs";

const CANONICAL_ALIAS = "m.room.canonical_alias";

/** `alias` and `name` are empty where the room has none. */
export type JoinedRoom = { readonly room_id: RoomId; readonly alias: string; readonly name: string };

/** By alias. */
export async function joinedRooms(session: MatrixSession): Promise<JoinedRoom[]> {
  const rooms = await Promise.all(
    (await session.joinedRooms()).map(async (room): Promise<JoinedRoom> => {
      const [alias, name] = await Promise.all([
        session.getState(room, CANONICAL_ALIAS, ""),
        session.getState(room, "m.room.name", ""),
      ]);
      return { room_id: room, alias: textOf(alias, "alias"), name: textOf(name, "name") };
    }),
  );
  return rooms.sort(byAlias);
}

/** `alias` and `invited_by` are empty where the invitation does not say them. */
export type Invitation = { readonly room_id: RoomId; readonly alias: string; readonly invited_by: string };

/** Invitations alone: no timeline of joined rooms. */
const invitationsOnly = { room: { timeline: { limit: 0 }, state: { types: [] } }, presence: { types: [] } };

/** Invitations that the session's user has not answered, by alias. */
export async function openInvitations(session: MatrixSession): Promise<Invitation[]> {
  const { invited } = await session.sync({ timeoutMs: 0, filter: invitationsOnly });
  return [...invited]
    .map(([room_id, events]) => ({
      room_id,
      alias: textOf(events.find(({ type }) => type === CANONICAL_ALIAS)?.content, "alias"),
      invited_by: inviterIn(events, session),
    }))
    .sort(byAlias);
}

const inviterIn = (events: readonly StateEvent[], session: MatrixSession): string =>
  events.find((event) => event.type === eventTypes.member && event.stateKey === session.userId)?.sender ?? "";

const byAlias = (a: { readonly alias: string }, b: { readonly alias: string }): number =>
  a.alias < b.alias ? -1 : 1;

function textOf(content: unknown, field: string): string {
  const value =
    typeof content === "object" && content !== null ? (content as Record<string, unknown>)[field] : undefined;
  return typeof value === "string" ? value : "";
}
