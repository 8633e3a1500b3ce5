/** Rooms, who is in them, and their aliases: SQL only. */
import type { Membership } from "../rooms/room-event.ts";
import type { HomeserverDatabase } from "./database.ts";

export type RoomRow = { room_id: string; version: string; creator: string; published: number };
export type MembershipRow = { room_id: string; membership: Membership; stream: number; forgotten: number };
export type AliasRow = { alias: string; room_id: string; creator: string };

export type RoomStore = ReturnType<typeof createRoomStore>;

export function createRoomStore(db: HomeserverDatabase) {
  const insertRoom = db.prepare<unknown, [string, string, string, number, number]>(
    "INSERT INTO rooms (room_id, version, creator, created_ts, published) VALUES (?,?,?,?,?)",
  );
  const room = db.prepare<RoomRow, [string]>(
    "SELECT room_id, version, creator, published FROM rooms WHERE room_id = ?",
  );
  const publish = db.prepare<unknown, [number, string]>("UPDATE rooms SET published = ? WHERE room_id = ?");
  const published = db.prepare<RoomRow, []>(
    "SELECT room_id, version, creator, published FROM rooms WHERE published = 1 ORDER BY room_id",
  );
  const lastStreams = db.prepare<{ room_id: string; last: number }, []>(
    `SELECT r.room_id, (SELECT MAX(stream) FROM events e WHERE e.room_id = r.room_id) AS last
     FROM rooms r WHERE last IS NOT NULL`,
  );
  const setMembership = db.prepare<unknown, [string, string, string, number]>(
    "INSERT OR REPLACE INTO memberships (user_id, room_id, membership, stream, forgotten) VALUES (?,?,?,?,0)",
  );
  const memberships = db.prepare<MembershipRow, [string]>(
    "SELECT room_id, membership, stream, forgotten FROM memberships WHERE user_id = ?",
  );
  const forget = db.prepare<unknown, [string, string]>(
    "UPDATE memberships SET forgotten = 1 WHERE user_id = ? AND room_id = ?",
  );
  const insertAlias = db.prepare<unknown, [string, string, string]>(
    "INSERT INTO aliases (alias, room_id, creator) VALUES (?,?,?)",
  );
  const alias = db.prepare<AliasRow, [string]>("SELECT alias, room_id, creator FROM aliases WHERE alias = ?");
  const aliasesOf = db.prepare<{ alias: string }, [string]>(
    "SELECT alias FROM aliases WHERE room_id = ? ORDER BY alias",
  );
  const deleteAlias = db.prepare<unknown, [string]>("DELETE FROM aliases WHERE alias = ?");
  return {
    insertRoom: (
      roomId: string,
      version: string,
      creator: string,
      now: number,
      isPublished: boolean,
    ): void => {
      insertRoom.run(roomId, version, creator, now, isPublished ? 1 : 0);
    },
    room: (roomId: string): RoomRow | undefined => room.get(roomId) ?? undefined,
    setPublished: (roomId: string, isPublished: boolean): void => {
      publish.run(isPublished ? 1 : 0, roomId);
    },
    published: (): RoomRow[] => published.all(),
    /** The stream of each room's newest event. */
    lastStreams: () => lastStreams.all(),
    setMembership: (userId: string, roomId: string, membership: Membership, stream: number): void => {
      setMembership.run(userId, roomId, membership, stream);
    },
    memberships: (userId: string): MembershipRow[] => memberships.all(userId),
    forget: (userId: string, roomId: string): void => {
      forget.run(userId, roomId);
    },
    insertAlias: (name: string, roomId: string, creator: string): void => {
      insertAlias.run(name, roomId, creator);
    },
    alias: (name: string): AliasRow | undefined => alias.get(name) ?? undefined,
    aliasesOf: (roomId: string): string[] => aliasesOf.all(roomId).map((row) => row.alias),
    deleteAlias: (name: string): void => {
      deleteAlias.run(name);
    },
  };
}
