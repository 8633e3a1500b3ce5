/** What /sync answers, reduced to the parts Bureau reads. Unparsable events are dropped, never the whole answer. */
import { jsonObject, list, parse } from "@bureau/schema/parse";
import { parseRoomId, type RoomId } from "@bureau/schema/refs";
import * as v from "valibot";
import { parseStateEvents, parseTimelineEvents, type StateEvent, type TimelineEvent } from "./event.ts";

const events = v.optional(v.object({ events: list(v.unknown()) }), () => ({ events: [] }));
const AnswerSchema = v.object({
  next_batch: v.pipe(v.string(), v.minLength(1)),
  rooms: v.optional(
    v.object({
      join: v.optional(
        v.record(
          v.string(),
          v.object({
            state: events,
            timeline: v.optional(v.object({ events: list(v.unknown()), limited: v.optional(v.boolean()) })),
          }),
        ),
      ),
      invite: v.optional(v.record(v.string(), v.object({ invite_state: events }))),
      leave: v.optional(jsonObject),
    }),
  ),
});

/** What happened in one joined room since the last sync. `state` comes before `timeline`. */
export type JoinedRoomUpdate = {
  readonly state: readonly StateEvent[];
  readonly timeline: readonly TimelineEvent[];
  /** Events are missing between the last sync and this timeline; `state` accounts for their state. */
  readonly limited: boolean;
};

export type SyncResponse = {
  readonly nextBatch: string;
  readonly joined: ReadonlyMap<RoomId, JoinedRoomUpdate>;
  readonly invited: ReadonlyMap<RoomId, readonly StateEvent[]>;
  /** Rooms we left, or were removed from. */
  readonly left: readonly RoomId[];
};

/** @throws InputError when it is not a sync answer at all */
export function parseSyncResponse(value: unknown): SyncResponse {
  const { next_batch, rooms } = parse(AnswerSchema, value, "answer to sync");
  return {
    nextBatch: next_batch,
    joined: new Map(
      Object.entries(rooms?.join ?? {}).map(([room, update]) => [
        parseRoomId(room),
        {
          state: parseStateEvents(update.state.events),
          timeline: parseTimelineEvents(update.timeline?.events ?? []),
          limited: update.timeline?.limited ?? false,
        },
      ]),
    ),
    invited: new Map(
      Object.entries(rooms?.invite ?? {}).map(([room, update]) => [
        parseRoomId(room),
        parseStateEvents(update.invite_state.events.map(withContent)),
      ]),
    ),
    left: Object.keys(rooms?.leave ?? {}).map(parseRoomId),
  };
}

/** Stripped state may lack fields that full events have. */
const withContent = (event: unknown): unknown =>
  typeof event === "object" && event !== null ? { content: {}, ...event } : event;
