/**
 * A homeserver without a network: what operators wrote, and how much of it a daemon has been told. While it is down
 * nothing is delivered; afterwards everything that changed is, in one answer.
 */
import { MatrixError } from "@bureau/matrix/matrix-error";
import type { SyncResponse } from "@bureau/matrix/sync-response";
import { eventTypes } from "@bureau/schema/events";
import { parseRoomAlias, parseRoomId, type RoomId } from "@bureau/schema/refs";

type Written = {
  readonly room: RoomId;
  readonly type: string;
  readonly stateKey: string;
  readonly content: unknown;
};

export const configRoom = parseRoomId("!config:bureau.test");
const templateRoom = parseRoomId("!template:bureau.test");
const conditionRoom = parseRoomId("!project:bureau.test");
export const conditionAlias = parseRoomAlias("#project/x:bureau.test");
const aliases: Readonly<Record<string, RoomId>> = {
  "#bureau/template:bureau.test": templateRoom,
  [conditionAlias]: conditionRoom,
};
const allRooms = [configRoom, templateRoom, conditionRoom];

const operator = "@operator:bureau.test";

export class SimulatedRooms {
  up = true;
  readonly #log: Written[] = allRooms.map((room) => ({
    room,
    type: eventTypes.powerLevels,
    stateKey: "",
    content: { users: { [operator]: 100 } },
  }));

  /** Returns the event's ID. */
  write(room: "config" | "template" | "condition", type: string, stateKey: string, content: unknown): string {
    const id = { config: configRoom, template: templateRoom, condition: conditionRoom }[room];
    return `$${this.#log.push({ room: id, type, stateKey, content }) - 1}`;
  }

  /** What was written since `position`, as /sync would say it; undefined while it is down. */
  sync(position: number): { readonly response: SyncResponse; readonly position: number } | undefined {
    if (!this.up) return undefined;
    const joined = new Map<
      RoomId,
      SyncResponse["joined"] extends ReadonlyMap<RoomId, infer Update> ? Update : never
    >();
    const fresh = this.#log.slice(position);
    for (const room of allRooms) {
      const events = fresh
        .map((written, index) => ({ written, id: `$${position + index}` }))
        .filter(({ written }) => written.room === room)
        .map(({ written, id }) => ({
          type: written.type,
          stateKey: written.stateKey,
          sender: operator,
          content: { ...(written.content as object) },
          eventId: id,
          sentAt: 0,
        }));
      if (position === 0 || events.length > 0)
        joined.set(room, { state: events, timeline: [], limited: false });
    }
    const next = this.#log.length;
    return { response: { nextBatch: String(next), joined, invited: new Map(), left: [] }, position: next };
  }

  /** The calls a room directory makes. */
  readonly session = {
    resolveAlias: async (alias: string): Promise<RoomId | undefined> => {
      this.#mustBeUp();
      return aliases[alias];
    },
    joinRoom: async (room: string): Promise<RoomId> => {
      this.#mustBeUp();
      return parseRoomId(room);
    },
  };

  #mustBeUp(): void {
    if (!this.up) throw new MatrixError("unavailable", "the homeserver is down");
  }
}
