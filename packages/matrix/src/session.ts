/**
 * One account at one homeserver: the calls of the Client-Server API that Bureau uses, typed at the edge. The session
 * keeps only its token and the aliases it looked up; `room-state.ts` keeps rooms, `sync-loop.ts` follows changes.
 *
 * Each call has a deadline and throws a `MatrixError`. A missing object is `undefined` where that is an expected answer.
 */
import { Secret } from "@bureau/kit/secret";
import {
  counts,
  countsByItself,
  countsByPower,
  ignoredBecause,
  isGuarded,
} from "@bureau/schema/event-writers";
import { eventTypes, isCleared } from "@bureau/schema/events";
import { jsonObject, parse, ref } from "@bureau/schema/parse";
import { type PowerEvents, powerIn } from "@bureau/schema/power";
import {
  type EventId,
  parseEventId,
  parseRoomId,
  parseUserId,
  type RoomAlias,
  type RoomId,
  serverOf,
  type UserId,
} from "@bureau/schema/refs";
import * as v from "valibot";
import { whoami } from "./auth.ts";
import { parseStateEvent, parseStateEvents, type StateEvent } from "./event.ts";
import { checkEvent } from "./event-content.ts";
import { withInteractiveAuth } from "./interactive-auth.ts";
import { MatrixError } from "./matrix-error.ts";
import { type MatrixRequest, matrixRequest, path, REQUEST_MS_MAX, type Server } from "./request.ts";
import { type OnIgnored, tellOnce, viewEvents } from "./room-state.ts";
import { parseSyncResponse, type SyncResponse } from "./sync-response.ts";

export type SessionOptions = Server & {
  readonly userId: UserId;
  /** Undefined: the server at that address is a proxy, which adds the token. */
  readonly token: string | undefined;
  /** Ends every call of the session. */
  readonly signal?: AbortSignal;
  /** Called once for each event read that does not count. */
  readonly onIgnored?: OnIgnored;
};

/** What `createRoom` takes, in the API's own words. */
export type CreateRoom = {
  /** The localpart of an alias. */
  readonly room_alias_name?: string;
  readonly name?: string;
  readonly topic?: string;
  readonly preset?: "private_chat" | "public_chat" | "trusted_private_chat";
  readonly visibility?: "private" | "public";
  readonly invite?: readonly UserId[];
  readonly creation_content?: Readonly<Record<string, unknown>>;
  readonly power_level_content_override?: Readonly<Record<string, unknown>>;
  readonly initial_state?: readonly {
    readonly type: string;
    readonly state_key: string;
    readonly content: unknown;
  }[];
};

const RoomIdAnswer = v.object({ room_id: ref(parseRoomId) });
const EventIdAnswer = v.object({ event_id: ref(parseEventId) });
const JoinedRoomsAnswer = v.object({ joined_rooms: v.array(ref(parseRoomId)) });
const JoinedMembersAnswer = v.object({ joined: jsonObject });
const CapabilitiesAnswer = v.object({
  capabilities: v.object({ "m.room_versions": v.object({ default: v.string() }) }),
});
const EventAnswer = v.object({
  content: jsonObject,
  sender: v.string(),
  origin_server_ts: v.number(),
  unsigned: v.optional(v.object({ replaces_state: v.optional(v.string()) })),
});
const MessagesAnswer = v.object({
  chunk: v.array(jsonObject),
  start: v.optional(v.string()),
  end: v.optional(v.string()),
});
export type Messages = v.InferOutput<typeof MessagesAnswer>;

export class MatrixSession {
  /** For further sessions at the same homeserver. */
  readonly server: Server;
  readonly userId: UserId;
  readonly #token: Secret | undefined;
  /** Aliases of the rooms that were looked up, for errors. */
  readonly #names = new Map<RoomId | RoomAlias, RoomAlias>();
  readonly #signal: AbortSignal | undefined;
  readonly #onIgnored: OnIgnored;

  constructor(options: SessionOptions) {
    this.server = { homeserver: options.homeserver, fetch: options.fetch };
    this.userId = options.userId;
    this.#token = options.token === undefined ? undefined : new Secret(options.token);
    this.#signal = options.signal;
    this.#onIgnored = tellOnce(options.onIgnored ?? (() => {}));
  }

  get homeserver(): string {
    return this.server.homeserver;
  }

  #call(
    act: string,
    method: MatrixRequest["method"],
    at: string,
    rest: Pick<MatrixRequest, "query" | "body" | "timeoutMs" | "rateLimitMsMax" | "signal"> = {},
  ): Promise<unknown> {
    return matrixRequest({
      ...this.server,
      act,
      method,
      path: at,
      token: this.#token?.reveal(),
      ...rest,
      signal: eitherSignal(this.#signal, rest.signal),
    });
  }

  /** Whose token this is, as the homeserver sees it. @throws MatrixError `unauthorized` when it is not valid */
  async whoami(signal?: AbortSignal): Promise<{ userId: UserId; deviceId: string }> {
    return await whoami({
      ...this.server,
      token: this.#token?.reveal(),
      signal: eitherSignal(this.#signal, signal),
    });
  }

  /**
   * Whether the homeserver has no account of that name. Needs both signs, a missing profile and a free name: an account may
   * have an empty profile, and a server may be configured to call every name free. False for accounts of other servers.
   */
  async isMissing(user: UserId): Promise<boolean> {
    if (serverOf(user) !== serverOf(this.userId)) return false;
    const act = `look up ${user}`;
    const profile = await refusalOf(this.#call(act, "GET", path`/v3/profile/${user}`));
    // Synapse answers M_UNKNOWN in some cases and M_NOT_FOUND in others.
    if (profile?.status !== 404 || profile.errcode === "M_UNRECOGNIZED") return false;
    const query = { username: user.slice(1, user.indexOf(":")) };
    return (await refusalOf(this.#call(act, "GET", "/v3/register/available", { query }))) === undefined;
  }

  /** The room an alias stands for; undefined when there is none. */
  async resolveAlias(alias: RoomAlias, signal?: AbortSignal): Promise<RoomId | undefined> {
    const answer = await missingIsUndefined(
      this.#call(`look up ${alias}`, "GET", path`/v3/directory/room/${alias}`, { signal }),
      "M_NOT_FOUND",
    );
    if (answer === undefined) return undefined;
    const { room_id } = parse(RoomIdAnswer, answer, `answer to resolving ${alias}`);
    this.#names.set(room_id, alias);
    return room_id;
  }

  #name(room: RoomId | RoomAlias): string {
    return this.#names.get(room) ?? room;
  }

  async createAlias(alias: RoomAlias, room: RoomId): Promise<void> {
    await this.#call(
      `give ${this.#name(room)} the alias ${alias}`,
      "PUT",
      path`/v3/directory/room/${alias}`,
      {
        body: { room_id: room },
      },
    );
  }

  async deleteAlias(alias: RoomAlias): Promise<void> {
    await this.#call(`remove the alias ${alias}`, "DELETE", path`/v3/directory/room/${alias}`);
  }

  /** The version of rooms that are made without saying one; undefined when the homeserver does not tell. */
  async defaultRoomVersion(): Promise<string | undefined> {
    const answer = await this.#call("ask for the homeserver's capabilities", "GET", "/v3/capabilities");
    const parsed = v.safeParse(CapabilitiesAnswer, answer);
    return parsed.success ? parsed.output.capabilities["m.room_versions"].default : undefined;
  }

  /** @throws MatrixError `failed` with errcode `M_ROOM_IN_USE` when the alias is taken */
  async createRoom(room: CreateRoom): Promise<RoomId> {
    const answer = await this.#call(
      `create the room "${room.room_alias_name ?? room.name ?? ""}"`,
      "POST",
      "/v3/createRoom",
      { body: room },
    );
    return parse(RoomIdAnswer, answer, "answer to createRoom").room_id;
  }

  /** Joins by ID or alias; joining twice is the same as once. */
  async joinRoom(room: RoomId | RoomAlias, signal?: AbortSignal): Promise<RoomId> {
    const answer = await this.#call(`join ${this.#name(room)}`, "POST", path`/v3/join/${room}`, {
      body: {},
      signal,
    });
    return parse(RoomIdAnswer, answer, `answer to joining ${room}`).room_id;
  }

  async inviteUser(room: RoomId, user: UserId): Promise<void> {
    await this.#call(`invite ${user} to ${this.#name(room)}`, "POST", path`/v3/rooms/${room}/invite`, {
      body: { user_id: user },
    });
  }

  async kickUser(room: RoomId, user: UserId, reason = ""): Promise<void> {
    await this.#call(`remove ${user} from ${this.#name(room)}`, "POST", path`/v3/rooms/${room}/kick`, {
      body: { user_id: user, reason },
    });
  }

  async leaveRoom(room: RoomId): Promise<void> {
    await this.#call(`leave ${this.#name(room)}`, "POST", path`/v3/rooms/${room}/leave`, { body: {} });
  }

  async joinedRooms(signal?: AbortSignal): Promise<RoomId[]> {
    const answer = await this.#call("list the rooms of this account", "GET", "/v3/joined_rooms", { signal });
    return parse(JoinedRoomsAnswer, answer, "answer to joined_rooms").joined_rooms;
  }

  async joinedMembers(room: RoomId, signal?: AbortSignal): Promise<UserId[]> {
    const answer = await this.#call(
      `list the members of ${this.#name(room)}`,
      "GET",
      path`/v3/rooms/${room}/joined_members`,
      { signal },
    );
    const { joined } = parse(JoinedMembersAnswer, answer, "answer to joined_members");
    return Object.keys(joined).map(parseUserId);
  }

  /**
   * The content of one state event; undefined when there is none that counts (schema/event-writers). Parse it with its
   * schema.
   */
  async getState(room: RoomId, type: string, stateKey: string, signal?: AbortSignal): Promise<unknown> {
    if (!isGuarded(type)) return this.#content(room, type, stateKey, signal);
    const event = await this.stateEvent(room, type, stateKey, signal);
    return event !== undefined && (await this.counts(room, event, signal)) ? event.content : undefined;
  }

  #content(room: RoomId, type: string, stateKey: string, signal?: AbortSignal): Promise<unknown> {
    return missingIsUndefined(
      this.#call(
        `read ${eventName(type, stateKey)} in ${this.#name(room)}`,
        "GET",
        path`/v3/rooms/${room}/state/${type}/${stateKey}`,
        { signal },
      ),
      "M_NOT_FOUND",
    );
  }

  /** One current state event, from any sender. */
  async stateEvent(
    room: RoomId,
    type: string,
    stateKey: string,
    signal?: AbortSignal,
  ): Promise<StateEvent | undefined> {
    const answer = await missingIsUndefined(
      this.#call(
        `read ${eventName(type, stateKey)} in ${this.#name(room)}`,
        "GET",
        path`/v3/rooms/${room}/state/${type}/${stateKey}`,
        { query: { format: "event" }, signal },
      ),
      "M_NOT_FOUND",
    );
    if (answer === undefined) return undefined;
    const event = parseStateEvent(answer);
    if (event !== undefined) return event;
    // A homeserver that gives the content alone says whose it is in the room's whole state.
    const all = await this.wholeState(room, signal);
    return all.find((one) => one.type === type && one.stateKey === stateKey);
  }

  /** Whether an event of the room counts; reports an event that does not. */
  async counts(
    room: RoomId,
    event: Pick<StateEvent, "type" | "stateKey" | "sender" | "content">,
    signal?: AbortSignal,
  ): Promise<boolean> {
    // The homeserver has allowed our own events.
    const isOwn = event.sender === this.userId && countsByPower(event.type);
    if (isOwn || countsByItself(event)) return true;
    if (countsByPower(event.type) && counts(event, powerIn(await this.powerEvents(room, signal))))
      return true;
    if (!isCleared(event.content)) this.#onIgnored(ignoredBecause(event));
    return false;
  }

  /** The events that define power in a room. */
  async powerEvents(room: RoomId, signal?: AbortSignal): Promise<PowerEvents> {
    const [levels, create] = await Promise.all([
      this.#content(room, eventTypes.powerLevels, "", signal),
      this.stateEvent(room, "m.room.create", "", signal),
    ]);
    return { levels, create };
  }

  /** For an event that does not count and that the caller read by /sync. */
  reportIgnored(sentence: string): void {
    this.#onIgnored(sentence);
  }

  /** Everything in a room that is current and counts; events that are not events are left out. */
  async getRoomState(room: RoomId): Promise<StateEvent[]> {
    const state = await this.wholeState(room);
    const view = viewEvents(state, this.#onIgnored);
    return state.filter(({ type, stateKey }) => view.get(type, stateKey) !== undefined);
  }

  /** The whole current state of a room, from every sender. */
  async wholeState(room: RoomId, signal?: AbortSignal): Promise<StateEvent[]> {
    const answer = await this.#call(
      `read the state of ${this.#name(room)}`,
      "GET",
      path`/v3/rooms/${room}/state`,
      {
        signal,
      },
    );
    return parseStateEvents(parse(v.array(v.unknown()), answer, `state of ${room}`));
  }

  /** One event with what the homeserver knows beside it; undefined when there is none we may see. */
  async getEvent(
    room: RoomId,
    event: EventId,
  ): Promise<
    | {
        readonly content: Readonly<Record<string, unknown>>;
        readonly sender: string;
        readonly sentAt: number;
        readonly replaces: string | undefined;
      }
    | undefined
  > {
    const answer = await missingIsUndefined(
      this.#call(
        `read the event ${event} in ${this.#name(room)}`,
        "GET",
        path`/v3/rooms/${room}/event/${event}`,
      ),
      "M_NOT_FOUND",
    );
    if (answer === undefined) return undefined;
    const { content, sender, origin_server_ts, unsigned } = parse(EventAnswer, answer, `event ${event}`);
    return { content, sender, sentAt: origin_server_ts, replaces: unsigned?.replaces_state };
  }

  async putState(
    room: RoomId,
    type: string,
    stateKey: string,
    content: unknown,
    signal?: AbortSignal,
  ): Promise<EventId> {
    checkEvent(type, stateKey, content);
    const answer = await this.#call(
      `write ${eventName(type, stateKey)} in ${this.#name(room)}`,
      "PUT",
      path`/v3/rooms/${room}/state/${type}/${stateKey}`,
      {
        body: content,
        signal,
      },
    );
    return parse(EventIdAnswer, answer, `answer to putting ${type}`).event_id;
  }

  /** Sends a timeline event. Sending again with the same `txnId` is one event. */
  async sendEvent(
    room: RoomId,
    type: string,
    content: unknown,
    options: { readonly txnId?: string; readonly signal?: AbortSignal } = {},
  ): Promise<EventId> {
    checkEvent(type, undefined, content);
    const txnId = options.txnId ?? crypto.randomUUID();
    const answer = await this.#call(
      `send ${type} to ${this.#name(room)}`,
      "PUT",
      path`/v3/rooms/${room}/send/${type}/${txnId}`,
      {
        body: content,
        signal: options.signal,
      },
    );
    return parse(EventIdAnswer, answer, `answer to sending ${type}`).event_id;
  }

  /** Sends an `m.room.message`. */
  sendMessage(
    room: RoomId,
    content: Readonly<Record<string, unknown>> & { readonly msgtype: string; readonly body: string },
    options: { readonly txnId?: string; readonly signal?: AbortSignal } = {},
  ): Promise<EventId> {
    return this.sendEvent(room, "m.room.message", content, options);
  }

  /** A page of the timeline, newest first (`b`) or oldest first (`f`), of all types of events or those named. */
  async messages(
    room: RoomId,
    options: {
      readonly dir?: "b" | "f";
      readonly from?: string;
      readonly limit?: number;
      readonly types?: readonly string[];
      readonly senders?: readonly UserId[];
    } = {},
  ): Promise<Messages> {
    const { dir = "b", from, limit = 50, types, senders } = options;
    const filter =
      types === undefined && senders === undefined ? undefined : JSON.stringify({ types, senders });
    const answer = await this.#call(
      `read the messages of ${this.#name(room)}`,
      "GET",
      path`/v3/rooms/${room}/messages`,
      {
        query: { dir, from, limit, filter },
      },
    );
    return parse(MessagesAnswer, answer, `messages of ${room}`);
  }

  /** One /sync. Waits up to `timeoutMs` at the homeserver, and 30 s more for the answer. */
  async sync(options: {
    readonly since?: string | undefined;
    readonly timeoutMs: number;
    readonly filter?: unknown;
    /** Time for the answer beside the long poll's; {@link REQUEST_MS_MAX} when it is not given. */
    readonly answerMs?: number;
    readonly signal?: AbortSignal;
  }): Promise<SyncResponse> {
    const answer = await this.#call("sync", "GET", "/v3/sync", {
      query: {
        since: options.since,
        timeout: options.timeoutMs,
        filter: options.filter === undefined ? undefined : JSON.stringify(options.filter),
      },
      timeoutMs: options.timeoutMs + (options.answerMs ?? REQUEST_MS_MAX),
      // The sync loop waits itself, and reports that it is not in sync.
      rateLimitMsMax: 0,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    return parseSyncResponse(answer);
  }

  async setPresence(
    presence: "online" | "offline" | "unavailable",
    options: { readonly message?: string; readonly timeoutMs?: number } = {},
  ): Promise<void> {
    await this.#call("set the presence of this account", "PUT", path`/v3/presence/${this.userId}/status`, {
      body: { presence, ...(options.message === undefined ? {} : { status_msg: options.message }) },
      // Presence that arrives late is of no use.
      rateLimitMsMax: 0,
      ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    });
  }

  /** Changes this account's password; other devices are logged out unless `keepDevices`. */
  async changePassword(current: string, next: string, keepDevices = false): Promise<void> {
    await withInteractiveAuth(
      (auth) =>
        this.#call(`change the password of ${this.userId}`, "POST", "/v3/account/password", {
          body: { new_password: next, logout_devices: !keepDevices, ...(auth === undefined ? {} : { auth }) },
        }),
      this.#passwordAnswer(current),
    );
  }

  /** Closes this account permanently, and ends all its tokens. */
  async deactivate(password: string): Promise<void> {
    await withInteractiveAuth(
      (auth) =>
        this.#call(`close the account ${this.userId}`, "POST", "/v3/account/deactivate", {
          body: { erase: false, ...(auth === undefined ? {} : { auth }) },
        }),
      this.#passwordAnswer(password),
    );
  }

  /** Ends this token, or with `everywhere` all tokens of the account. */
  async logout(everywhere = false): Promise<void> {
    await this.#call(`log out ${this.userId}`, "POST", everywhere ? "/v3/logout/all" : "/v3/logout", {
      body: {},
    });
  }

  #passwordAnswer(password: string): Record<string, Record<string, unknown>> {
    return {
      "m.login.password": { identifier: { type: "m.id.user", user: this.userId }, password },
    };
  }
}

const eitherSignal = (a: AbortSignal | undefined, b: AbortSignal | undefined): AbortSignal | undefined =>
  a === undefined || b === undefined ? (a ?? b) : AbortSignal.any([a, b]);

const eventName = (type: string, stateKey: string): string =>
  stateKey === "" ? type : `${type} "${stateKey}"`;

async function missingIsUndefined(call: Promise<unknown>, errcode: string): Promise<unknown> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof MatrixError && error.status === 404 && error.errcode === errcode) return undefined;
    throw error;
  }
}

/** What the homeserver refused; undefined when it answered. @throws MatrixError when it cannot be reached */
async function refusalOf(call: Promise<unknown>): Promise<MatrixError | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    if (error instanceof MatrixError && error.status >= 400 && error.status < 500) return error;
    throw error;
  }
}
