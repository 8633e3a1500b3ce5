/** Makes a room under its alias, or completes the existing one. */
import { systemClock } from "@bureau/kit/clock";
import { changePowerLevels } from "@bureau/matrix/power-levels";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, isCleared } from "@bureau/schema/events";
import { aliasOf, type Localpart, type RoomId, serverOf, type UserId } from "@bureau/schema/refs";
import { completeLevels, type Note, stateOfOurs } from "./found-room.ts";
import { isMember } from "./machine-rooms.ts";
import { powerLevels, type RoomKind } from "./room-catalogue.ts";

/** A state event that a room is made with. */
export type RoomState = { readonly type: string; readonly state_key: string; readonly content: object };

type RoomWanted = {
  readonly kind: RoomKind;
  readonly localpart: Localpart;
  readonly name: string;
  readonly topic?: string;
  readonly invite?: readonly UserId[];
  /** Rights of members other than the administrator. */
  readonly levels?: Readonly<Record<UserId, number>>;
  readonly state?: readonly RoomState[];
};

/**
 * The room with this alias. Creates a missing room completely with a single request, because homeservers limit the rate of
 * writes; reads an existing room once, and adds what it lacks.
 * @throws BureauError `conflict` when the alias is that of a stranger's room
 */
export async function ensureRoom(
  session: MatrixSession,
  wanted: RoomWanted,
  note: Note = () => {},
): Promise<RoomId> {
  const alias = aliasOf(wanted.localpart, serverOf(session.userId));
  const known = await session.resolveAlias(alias);
  if (known === undefined) return makeRoom(session, wanted);
  await completeRoom(session, known, wanted, note);
  return known;
}

async function makeRoom(session: MatrixSession, wanted: RoomWanted): Promise<RoomId> {
  const { kind, localpart, name, topic, invite, state, levels = {} } = wanted;
  const users = await usersOf(session, levels);
  const room = await session.createRoom({
    room_alias_name: localpart,
    name,
    preset: "private_chat",
    visibility: "private",
    ...(topic === undefined ? {} : { topic }),
    power_level_content_override: { ...powerLevels(kind), ...(users === undefined ? {} : { users }) },
    ...(kind === "space" ? { creation_content: { type: "m.space" } } : {}),
    ...(invite === undefined ? {} : { invite }),
    ...(state === undefined ? {} : { initial_state: state }),
  });
  if (users === undefined && Object.keys(levels).length > 0)
    await changePowerLevels(session, room, { users: levels }, { clock: systemClock });
  return room;
}

/**
 * The `users` of a new room's power levels. Beside others the creator must be named, and from room version 12 on must not
 * be. Undefined when the homeserver alone names the creator, or the room version is unknown.
 */
async function usersOf(
  session: MatrixSession,
  levels: Readonly<Record<UserId, number>>,
): Promise<Readonly<Record<UserId, number>> | undefined> {
  if (Object.keys(levels).length === 0) return undefined;
  const version = Number.parseInt((await session.defaultRoomVersion()) ?? "", 10);
  if (Number.isNaN(version)) return undefined;
  return version >= 12 ? levels : { [session.userId]: 100, ...levels };
}

async function completeRoom(
  session: MatrixSession,
  room: RoomId,
  wanted: RoomWanted,
  note: Note,
): Promise<void> {
  const { state = [], invite = [], levels } = wanted;
  const found = { ...wanted, room };
  const present = await stateOfOurs(session, found);
  const contentOf = (type: string, key: string): Readonly<Record<string, unknown>> =>
    present.find((event) => event.type === type && event.stateKey === key)?.content ?? {};
  for (const { type, state_key, content } of state)
    if (isCleared(contentOf(type, state_key))) await session.putState(room, type, state_key, content);
  for (const user of invite) {
    const { membership } = contentOf(eventTypes.member, user);
    if (!isMember(String(membership))) await session.inviteUser(room, user);
  }
  await completeLevels(session, found, present, note, levels);
}
