/** Data of a user on the server: account data, tags, receipts, read markers, typing, presence. */
import type { Clock } from "@bureau/kit/clock";
import * as v from "valibot";
import { type JsonObject, objectField } from "../../rooms/room-event.ts";
import type { RoomRegistry } from "../../rooms/room-registry.ts";
import type { RoomState } from "../../rooms/room-state.ts";
import type { HomeserverDatabase } from "../../store/database.ts";
import type { Ephemeral } from "../../sync/ephemeral.ts";
import type { Notifier } from "../../sync/notifier.ts";
import { presenceContent } from "../../sync/sync-service.ts";
import type { Receipt, UserData } from "../../sync/user-data.ts";
import { forbidden, invalidParam, MatrixError, notFound } from "../matrix-error.ts";
import { param, parseBody, type RequestContext } from "../request.ts";
import { type AuthedRequest, authed, type Route } from "../router.ts";

type Deps = {
  readonly db: HomeserverDatabase;
  readonly clock: Clock;
  readonly registry: RoomRegistry;
  readonly userData: UserData;
  readonly ephemeral: Ephemeral;
  readonly notifier: Notifier;
};

const typingSchema = v.object({
  typing: v.boolean(),
  timeout: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 30_000),
});
const presenceSchema = v.object({
  presence: v.picklist(["online", "unavailable", "offline"]),
  status_msg: v.optional(v.nullable(v.pipe(v.string(), v.maxLength(1_024)))),
});
const receiptSchema = v.looseObject({ thread_id: v.optional(v.pipe(v.string(), v.maxLength(255))) });
const optionalId = v.optional(v.nullable(v.pipe(v.string(), v.maxLength(255))));
const markersSchema = v.looseObject({
  "m.fully_read": optionalId,
  "m.read": optionalId,
  "m.read.private": optionalId,
});

/** Types that other endpoints own. */
const reservedTypes = new Set(["m.fully_read", "m.push_rules"]);

export function userDataEndpoints(deps: Deps): Route[] {
  return [
    ...accountDataEndpoints(deps),
    ...tagEndpoints(deps),
    ...receiptEndpoints(deps),
    ...presenceEndpoints(deps),
  ];
}

function ownUser(request: AuthedRequest): string {
  const userId = param(request, "userId");
  if (userId !== request.session.userId) throw forbidden("This belongs to the user of the access token only");
  return userId;
}

function accountDataEndpoints({ userData }: Deps): Route[] {
  const paths = ["/user/:userId/account_data/:type", "/user/:userId/rooms/:roomId/account_data/:type"];
  const read = (request: AuthedRequest): JsonObject => {
    const type = param(request, "type");
    const data = userData.accountData(ownUser(request), roomOf(request), type);
    if (data === undefined) throw notFound(`There is no account data ${type.slice(0, 255)}`);
    return data;
  };
  const write = async (request: AuthedRequest): Promise<JsonObject> => {
    const userId = ownUser(request);
    const type = param(request, "type");
    if (reservedTypes.has(type))
      throw new MatrixError(405, "M_BAD_JSON", `${type} is not set through account data`);
    if (type.length > 255) throw invalidParam("The type is longer than 255 bytes");
    const content = await request.json();
    userData.setAccountData(userId, roomOf(request), type, content);
    return {};
  };
  return paths.flatMap((path) => [authed("GET", path, read), authed("PUT", path, write)]);
}

function roomOf(request: RequestContext): string {
  const roomId = request.params["roomId"] ?? "";
  if (roomId !== "" && !roomId.startsWith("!"))
    throw invalidParam(`${JSON.stringify(roomId.slice(0, 80))} is no room ID`);
  return roomId;
}

function tagEndpoints({ userData }: Deps): Route[] {
  const read = (request: AuthedRequest): JsonObject => {
    const content = userData.accountData(ownUser(request), roomOf(request), "m.tag");
    return (content && objectField(content, "tags")) ?? {};
  };
  const change = (request: AuthedRequest, edit: (tags: JsonObject) => JsonObject): JsonObject => {
    userData.setAccountData(request.session.userId, roomOf(request), "m.tag", { tags: edit(read(request)) });
    return {};
  };
  const one = "/user/:userId/rooms/:roomId/tags/:tag";
  return [
    authed("GET", "/user/:userId/rooms/:roomId/tags", (request) => ({ tags: read(request) })),
    authed("PUT", one, async (request) => {
      const content = await request.json();
      return change(request, (tags) => ({ ...tags, [param(request, "tag")]: content }));
    }),
    authed("DELETE", one, (request) =>
      change(request, (tags) =>
        Object.fromEntries(Object.entries(tags).filter(([tag]) => tag !== param(request, "tag"))),
      ),
    ),
  ];
}

function receiptEndpoints(deps: Deps): Route[] {
  return [
    authed("POST", "/rooms/:roomId/receipt/:receiptType/:eventId", async (request) => {
      const body = await parseBody(request, receiptSchema);
      const type = param(request, "receiptType");
      const receipt = { type, eventId: param(request, "eventId"), threadId: body.thread_id ?? "" };
      mark(deps, request, [receipt]);
      return {};
    }),
    authed("POST", "/rooms/:roomId/read_markers", async (request) => {
      const body = await parseBody(request, markersSchema);
      const types = ["m.fully_read", "m.read", "m.read.private"] as const;
      const receipts = types.flatMap((type) => {
        const target = body[type];
        return target == null ? [] : [{ type, eventId: target, threadId: "" }];
      });
      mark(deps, request, receipts);
      return {};
    }),
    authed("PUT", "/rooms/:roomId/typing/:userId", async (request) => {
      const body = await parseBody(request, typingSchema);
      const userId = ownUser(request);
      joinedRoom(deps, request);
      deps.ephemeral.setTyping(param(request, "roomId"), userId, body.typing ? body.timeout : 0);
      return {};
    }),
  ];
}

function joinedRoom(deps: Deps, request: AuthedRequest): RoomState {
  const room = deps.registry.get(param(request, "roomId"));
  if (room.membership(request.session.userId) !== "join")
    throw forbidden(`You are not in room ${room.roomId}`);
  return room;
}

function mark(deps: Deps, request: AuthedRequest, receipts: readonly Receipt[]): void {
  const room = joinedRoom(deps, request);
  const { userId } = request.session;
  for (const { type, eventId } of receipts) {
    if (!eventId.startsWith("$"))
      throw invalidParam(`${JSON.stringify(eventId.slice(0, 80))} is not an event ID`);
    if (!["m.fully_read", "m.read", "m.read.private"].includes(type)) {
      throw invalidParam(
        `Receipt type must be m.read, m.read.private or m.fully_read, not ${type.slice(0, 80)}`,
      );
    }
  }
  deps.db.transaction(() => {
    const [full, others] = [receipts.filter(isFullyRead), receipts.filter((one) => !isFullyRead(one))];
    for (const { eventId: target } of full) {
      deps.userData.setAccountData(userId, room.roomId, "m.fully_read", { event_id: target });
    }
    if (others.length > 0) deps.userData.setReceipts(room, userId, others);
  });
}

const isFullyRead = (receipt: Receipt): boolean => receipt.type === "m.fully_read";

function presenceEndpoints(deps: Deps): Route[] {
  const { ephemeral, registry, clock } = deps;
  return [
    authed("GET", "/presence/:userId/status", (request) => {
      const userId = param(request, "userId");
      const own = userId === request.session.userId;
      if (!own && !registry.shareRoom(userId, request.session.userId)) {
        throw forbidden(`You share no room with ${userId.slice(0, 255)}`);
      }
      const presence = ephemeral.presenceOf(userId);
      return presence === undefined ? { presence: "offline" } : presenceContent(presence, clock.now());
    }),
    authed("PUT", "/presence/:userId/status", async (request) => {
      const body = await parseBody(request, presenceSchema);
      const userId = ownUser(request);
      ephemeral.setPresence(userId, body.presence, body.status_msg ?? undefined);
      deps.notifier.wakeForPresence(userId);
      return {};
    }),
  ];
}
