/** Reading and writing room state, and the member lists, which are views of it. */
import type { Aliases } from "../../rooms/aliases.ts";
import type { EventFormatter } from "../../rooms/client-event.ts";
import type { RoomActions } from "../../rooms/room-actions.ts";
import { type JsonObject, membershipOf, type RoomEvent, stringField } from "../../rooms/room-event.ts";
import type { RoomRegistry } from "../../rooms/room-registry.ts";
import { openRoomView, type RoomView } from "../../rooms/room-view.ts";
import type { RoomWriter } from "../../rooms/room-writer.ts";
import type { EventStore } from "../../store/event-store.ts";
import { parseToken } from "../../sync/stream-token.ts";
import { forbidden, notFound } from "../matrix-error.ts";
import { param } from "../request.ts";
import { type AuthedRequest, authed, type Route } from "../router.ts";

type Deps = {
  readonly events: EventStore;
  readonly registry: RoomRegistry;
  readonly writer: RoomWriter;
  readonly actions: RoomActions;
  readonly aliases: Aliases;
  readonly format: EventFormatter;
};

export function roomStateEndpoints(deps: Deps): Route[] {
  const { registry, events, format } = deps;
  const get = (request: AuthedRequest): JsonObject =>
    readOne(deps, request, request.params["stateKey"] ?? "");
  const put = (request: AuthedRequest): Promise<JsonObject> =>
    write(deps, request, request.params["stateKey"] ?? "");
  const paths = ["/rooms/:roomId/state/:eventType/:stateKey", "/rooms/:roomId/state/:eventType"];
  return [
    authed("GET", "/rooms/:roomId/state", (request) => {
      const view = openRoomView(registry, events, param(request, "roomId"), request.session.userId);
      return [...view.readableState()].map((event) => format.full(event, request.session, view));
    }),
    ...paths.flatMap((path) => [authed("GET", path, get), authed("PUT", path, put)]),
    authed("GET", "/rooms/:roomId/members", (request) => members(deps, request)),
    authed("GET", "/rooms/:roomId/joined_members", (request) => joinedMembers(deps, request)),
  ];
}

function readOne(deps: Deps, request: AuthedRequest, stateKey: string): JsonObject {
  const view = openRoomView(deps.registry, deps.events, param(request, "roomId"), request.session.userId);
  const event = view.stateEvent(param(request, "eventType"), stateKey);
  if (event === undefined) {
    throw notFound(
      `The room has no ${param(request, "eventType")} with state key ${JSON.stringify(stateKey)}`,
    );
  }
  const whole = request.query.get("format") === "event";
  return whole ? deps.format.full(event, request.session, view) : event.content;
}

async function write(deps: Deps, request: AuthedRequest, stateKey: string): Promise<JsonObject> {
  const content = await request.json();
  const roomId = param(request, "roomId");
  const type = param(request, "eventType");
  const sender = request.session.userId;
  if (type === "m.room.canonical_alias") deps.aliases.checkCanonical(roomId, content);
  if (type === "m.room.member" && content["membership"] === "invite" && stateKey !== sender) {
    const reason = stringField(content, "reason");
    deps.actions.invite(roomId, sender, stateKey, reason, content["is_direct"] === true);
    const event = deps.registry.get(roomId).get(type, stateKey);
    if (event !== undefined) return { event_id: event.eventId };
  }
  const event = deps.writer.append({ roomId, type, sender, stateKey, content });
  return { event_id: event.eventId };
}

function members(deps: Deps, request: AuthedRequest): JsonObject {
  const view = openRoomView(deps.registry, deps.events, param(request, "roomId"), request.session.userId);
  const at = request.query.get("at");
  const state = at === null ? view.readableState() : stateThen(deps, view, parseToken(at).stream);
  const [wanted, unwanted] = [request.query.get("membership"), request.query.get("not_membership")];
  const chunk: JsonObject[] = [];
  for (const event of state) {
    if (event.type !== "m.room.member") continue;
    const membership = membershipOf(event.content);
    if (wanted !== null && membership !== wanted) continue;
    if (unwanted !== null && membership === unwanted) continue;
    chunk.push(deps.format.full(event, request.session, view));
  }
  return { chunk };
}

/** The state at a position whose events the user may see; M_FORBIDDEN for one before they joined. */
function stateThen(deps: Deps, view: RoomView, stream: number): Iterable<RoomEvent> {
  if (stream >= view.end) return view.readableState();
  const { roomId } = view.state;
  if (!view.canSee({ stream, type: "m.room.message", state_key: null }))
    throw forbidden(`You may not see room ${roomId} as it was then`);
  return deps.events.stateAt(roomId, stream);
}

function joinedMembers(deps: Deps, request: AuthedRequest): JsonObject {
  const roomId = param(request, "roomId");
  if (!deps.registry.isJoined(roomId, request.session.userId))
    throw forbidden(`You are not in room ${roomId}`);
  const joined: JsonObject = {};
  for (const event of deps.registry.get(roomId).ofType("m.room.member")) {
    if (event.stateKey === null || membershipOf(event.content) !== "join") continue;
    const name = stringField(event.content, "displayname");
    const avatar = stringField(event.content, "avatar_url");
    joined[event.stateKey] = {
      ...(name === undefined ? {} : { display_name: name }),
      ...(avatar === undefined ? {} : { avatar_url: avatar }),
    };
  }
  return { joined };
}
