/**
 * What one user may see of one room: nothing for strangers, everything up to their leaving for former members, and
 * of history what m.room.history_visibility gives. Every read endpoint and /sync asks here first.
 */
import { forbidden } from "../http/matrix-error.ts";
import type { EventRow, EventStore } from "../store/event-store.ts";
import { membershipOf, type RoomEvent, stringField } from "./room-event.ts";
import type { RoomRegistry } from "./room-registry.ts";
import type { RoomState } from "./room-state.ts";

/** Whether an event (its stream, type and state key) may be seen. */
export type Visibility = (event: Pick<EventRow, "stream" | "type" | "state_key">) => boolean;

/** The part of one room that one user sees. Data bundled with an event must be within it too. */
export type Sight = {
  readonly canSee: Visibility;
  /** The newest stream position the user may see: where they left, or the room's end. */
  readonly end: number;
};

export type RoomView = Sight & {
  readonly state: RoomState;
  readonly joined: boolean;
  /** The state the user may read: the current one for members, that at their leave event for former members. */
  readonly readableState: () => Iterable<RoomEvent>;
  readonly stateEvent: (type: string, stateKey: string) => RoomEvent | undefined;
};

/** The view of a member who sees the whole room: visible events are counted without a check of each. */
export const seesEverything: Visibility = () => true;

/** Opens the view. Throws M_FORBIDDEN for a user who never joined a room that is not world readable. */
export function openRoomView(
  registry: RoomRegistry,
  events: EventStore,
  roomId: string,
  userId: string,
): RoomView {
  const state = registry.get(roomId);
  const entry = registry.membershipsOf(userId).get(roomId);
  if (entry?.membership === "join") {
    return {
      state,
      joined: true,
      end: Number.MAX_SAFE_INTEGER,
      canSee: visibilityOf(state, events, userId),
      readableState: () => state.all(),
      stateEvent: (type, stateKey) => state.get(type, stateKey),
    };
  }
  if (state.historyVisibility() === "world_readable") return openedToAll(state, events, userId);
  const left =
    entry !== undefined && !entry.forgotten && (entry.membership === "leave" || entry.membership === "ban");
  if (!left || lastJoin(events, roomId, userId) === 0) throw forbidden(`You are not in room ${roomId}`);
  const end = leavingStream(events, roomId, userId, entry.stream);
  return {
    state,
    joined: false,
    end,
    canSee: visibilityOf(state, events, userId),
    readableState: () => events.stateAt(roomId, end),
    stateEvent: (type, stateKey) => events.stateEventAt(roomId, type, stateKey, end),
  };
}

function openedToAll(state: RoomState, events: EventStore, userId: string): RoomView {
  return {
    state,
    joined: false,
    end: Number.MAX_SAFE_INTEGER,
    canSee: visibilityOf(state, events, userId),
    readableState: () => state.all(),
    stateEvent: (type, stateKey) => state.get(type, stateKey),
  };
}

/** Stream of the user's newest join event; 0 when they never joined. */
export function lastJoin(events: EventStore, roomId: string, userId: string): number {
  const history = events.stateHistory(roomId, "m.room.member", userId);
  return history.findLast((event) => membershipOf(event.content) === "join")?.stream ?? 0;
}

/** The stream at which the user last stopped being joined (a ban after a kick shows nothing in between). */
export function leavingStream(events: EventStore, roomId: string, userId: string, fallback: number): number {
  const history = events.stateHistory(roomId, "m.room.member", userId);
  const lastJoin = history.findLastIndex((event) => membershipOf(event.content) === "join");
  return history[lastJoin + 1]?.stream ?? fallback;
}

/** The rule of the Client-Server API, "Room history visibility", for one user. */
export function visibilityOf(state: RoomState, events: EventStore, userId: string): Visibility {
  const current = state.get("m.room.history_visibility", "");
  const simple = current === undefined || current.replaces === null;
  const shared = ["shared", "world_readable"].includes(state.historyVisibility());
  if (simple && shared && state.membership(userId) === "join") return seesEverything;
  const members = events.stateHistory(state.roomId, "m.room.member", userId);
  const visibilities = events.stateHistory(state.roomId, "m.room.history_visibility", "");
  const lastJoin = members.findLast((event) => membershipOf(event.content) === "join")?.stream ?? 0;
  return ({ stream, type, state_key }) => {
    if (type === "m.room.member" && state_key === userId) return true;
    const visible = lastAt(visibilities, stream);
    const visibility = (visible && stringField(visible.content, "history_visibility")) ?? "shared";
    if (visibility === "world_readable") return true;
    const membership = membershipOf(lastAt(members, stream)?.content);
    if (membership === "join") return true;
    if (visibility === "shared") return lastJoin > stream;
    return visibility === "invited" && membership === "invite" && lastJoin > stream;
  };
}

function lastAt(history: readonly RoomEvent[], stream: number): RoomEvent | undefined {
  return history.findLast((event) => event.stream <= stream);
}
