/** Creating rooms and membership in them. */
import * as v from "valibot";
import type { Aliases } from "../../rooms/aliases.ts";
import { createRoom, createRoomSchema } from "../../rooms/create-room.ts";
import type { RoomActions, RoomActionsDeps } from "../../rooms/room-actions.ts";
import type { JsonObject } from "../../rooms/room-event.ts";
import { upgradeRoom } from "../../rooms/upgrade-room.ts";
import { invalidParam, MatrixError } from "../matrix-error.ts";
import { param, parseBody } from "../request.ts";
import { type AuthedRequest, authed, type Route } from "../router.ts";

type Deps = RoomActionsDeps & { readonly actions: RoomActions; readonly aliases: Aliases };

const reason = v.optional(v.nullable(v.pipe(v.string(), v.maxLength(4_096))));
const upgradeSchema = v.object({ new_version: v.string() });
const reasonSchema = v.object({ reason });
const targetSchema = v.object({ user_id: v.pipe(v.string(), v.maxLength(255)), reason });

type Act = (roomId: string, sender: string, target: string, reason: string | undefined) => void;

/** A new room is about ten events, which are kept forever. */
const CREATE_ROOM_COST = 10;

export function roomEndpoints(deps: Deps): Route[] {
  const { actions, registry } = deps;
  const onTarget = (path: string, act: Act): Route =>
    authed("POST", path, async (request) => {
      const body = await parseBody(request, targetSchema);
      act(param(request, "roomId"), request.session.userId, body.user_id, body.reason ?? undefined);
      return {};
    });
  const setMember =
    (membership: "ban"): Act =>
    (roomId, sender, target, why) =>
      void actions.setMembership({ roomId, sender, target, membership, reason: why });
  return [
    authed(
      "POST",
      "/createRoom",
      async (request) => {
        const body = await parseBody(request, createRoomSchema);
        return { room_id: createRoom(deps, request.session.userId, body) };
      },
      CREATE_ROOM_COST,
    ),
    authed("POST", "/join/:roomIdOrAlias", (request) => join(deps, request, param(request, "roomIdOrAlias"))),
    authed("POST", "/rooms/:roomId/join", (request) => join(deps, request, param(request, "roomId"))),
    authed("POST", "/knock/:roomIdOrAlias", (request) => knock(deps, request)),
    authed("POST", "/rooms/:roomId/leave", async (request) => {
      const body = await parseBody(request, reasonSchema);
      actions.leave(param(request, "roomId"), request.session.userId, body.reason ?? undefined);
      return {};
    }),
    authed("POST", "/rooms/:roomId/upgrade", async (request) => {
      const { new_version: version } = await parseBody(request, upgradeSchema);
      const roomId = upgradeRoom(deps, param(request, "roomId"), request.session.userId, version);
      return { replacement_room: roomId };
    }),
    authed("POST", "/rooms/:roomId/forget", (request) => forget(deps, request)),
    onTarget("/rooms/:roomId/invite", (roomId, sender, target, why) =>
      actions.invite(roomId, sender, target, why),
    ),
    onTarget("/rooms/:roomId/kick", (roomId, sender, target, why) =>
      actions.kick(roomId, sender, target, why),
    ),
    onTarget("/rooms/:roomId/ban", setMember("ban")),
    onTarget("/rooms/:roomId/unban", (roomId, sender, target, why) =>
      actions.unban(roomId, sender, target, why),
    ),
    authed("GET", "/joined_rooms", ({ session }) => ({
      joined_rooms: [...registry.membershipsOf(session.userId)].flatMap(([roomId, entry]) =>
        entry.membership === "join" ? [roomId] : [],
      ),
    })),
  ];
}

async function join(deps: Deps, request: AuthedRequest, roomIdOrAlias: string): Promise<JsonObject> {
  const body = await parseBody(request, reasonSchema);
  const roomId = deps.actions.resolve(roomIdOrAlias);
  deps.actions.join(request.session.userId, roomId, body.reason ?? undefined);
  return { room_id: roomId };
}

async function knock(deps: Deps, request: AuthedRequest): Promise<JsonObject> {
  const body = await parseBody(request, reasonSchema);
  const roomId = deps.actions.resolve(param(request, "roomIdOrAlias"));
  const { userId } = request.session;
  if (deps.registry.find(roomId) === undefined) throw new MatrixError(404, "M_NOT_FOUND", "Room not found");
  deps.actions.setMembership({
    roomId,
    sender: userId,
    target: userId,
    membership: "knock",
    reason: body.reason ?? undefined,
  });
  return { room_id: roomId };
}

function forget(deps: Deps, request: AuthedRequest): JsonObject {
  const roomId = param(request, "roomId");
  const { userId } = request.session;
  const entry = deps.registry.membershipsOf(userId).get(roomId);
  if (entry === undefined) throw invalidParam(`You were never in room ${roomId.slice(0, 255)}`);
  if (entry.membership !== "leave" && entry.membership !== "ban") {
    throw new MatrixError(400, "M_UNKNOWN", `You are still in room ${roomId}: leave it first`);
  }
  deps.registry.forget(userId, roomId);
  return {};
}
