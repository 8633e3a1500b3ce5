/**
 * The rooms that aliases stood for, kept beside a person's session file for the next command. A file that cannot be read or
 * written costs look-ups, never an error: it holds nothing that the homeserver does not have.
 */
import type { RoomMemory } from "@bureau/control/rooms/room-memory";
import { readIfPresent, writeAtomically } from "@bureau/os/durable-file";
import { roomMemoryOf } from "@bureau/os/layout";
import { parseJson, ref } from "@bureau/schema/parse";
import { parseRoomAlias, parseRoomId, type RoomAlias, type RoomId, type UserId } from "@bureau/schema/refs";
import * as v from "valibot";

const FileSchema = v.object({
  homeserver: v.string(),
  user_id: v.string(),
  rooms: v.array(v.tuple([ref(parseRoomAlias), ref(parseRoomId)])),
});

/** The file holds the newest ones. */
const ROOMS_MAX = 500;

/** Whose aliases these are: another homeserver, or another user there, sees other rooms. */
export type Owner = { readonly homeserver: string; readonly userId: UserId };

export function roomMemoryFile(sessionFile: string, owner: Owner): RoomMemory {
  const path = roomMemoryOf(sessionFile);
  return {
    recall: (alias) => read(path, owner).get(alias),
    keep(found) {
      const rooms = new Map(read(path, owner));
      for (const [alias, room] of found) {
        rooms.delete(alias);
        rooms.set(alias, room);
      }
      const file = {
        homeserver: owner.homeserver,
        user_id: owner.userId,
        rooms: [...rooms].slice(-ROOMS_MAX),
      };
      try {
        writeAtomically(path, JSON.stringify(file), 0o600);
      } catch {
        // A folder that cannot be written to.
      }
    },
  };
}

function read(path: string, owner: Owner): ReadonlyMap<RoomAlias, RoomId> {
  try {
    const file = parseJson(FileSchema, readIfPresent(path) ?? "", `rooms "${path}"`);
    const isTheirs = file.homeserver === owner.homeserver && file.user_id === owner.userId;
    return new Map(isTheirs ? file.rooms : []);
  } catch {
    return new Map();
  }
}
