/** Remembers which room an alias stands for, from one command to the next. What it returns may be out of date. */
import type { RoomAlias, RoomId } from "@bureau/schema/refs";

export type RoomMemory = {
  recall(alias: RoomAlias): RoomId | undefined;
  keep(rooms: ReadonlyMap<RoomAlias, RoomId>): void;
};

export const noRoomMemory: RoomMemory = { recall: () => undefined, keep: () => {} };
