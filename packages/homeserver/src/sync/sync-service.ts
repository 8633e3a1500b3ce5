/**
 * /sync: what changed for one user since a token, and the long poll around it. An answer is computed from one
 * position of the stream, synchronously, so it is consistent. An empty answer waits for the notifier, which tells up to
 * which position nothing was news; the next answer starts there. A room with nothing new costs a few map look-ups and no
 * query. Answers with the whole state are large: they are computed one at a time, in the order of the requests, and not at
 * all for a client that disconnected.
 */
import type { Clock } from "@bureau/kit/clock";
import type { Session, Sessions } from "../auth/sessions.ts";
import { invalidParam, MatrixError } from "../http/matrix-error.ts";
import { type EventFormatter, strippedEvent, strippedTypes } from "../rooms/client-event.ts";
import { type JsonObject, membershipOf } from "../rooms/room-event.ts";
import type { MembershipEntry, RoomRegistry } from "../rooms/room-registry.ts";
import type { RoomState } from "../rooms/room-state.ts";
import { lastJoin, leavingStream } from "../rooms/room-view.ts";
import type { HomeserverDatabase } from "../store/database.ts";
import type { DeviceStore } from "../store/device-store.ts";
import type { EventStore } from "../store/event-store.ts";
import type { AccountDataRow } from "../store/user-data-store.ts";
import type { Ephemeral, Presence } from "./ephemeral.ts";
import type { SyncFilter } from "./event-filter.ts";
import type { Interest, Notifier } from "./notifier.ts";
import { defaultPushRules } from "./push-rules.ts";
import { buildRoomSection, memberSummary, type RoomRange } from "./room-section.ts";
import { formatSyncToken, parseToken } from "./stream-token.ts";
import { Turns } from "./turns.ts";
import type { UserData } from "./user-data.ts";

export type SyncRequest = {
  readonly session: Session;
  readonly since: string | undefined;
  readonly timeoutMs: number;
  readonly fullState: boolean;
  readonly filter: SyncFilter;
  readonly signal: AbortSignal;
};

export type SyncDeps = {
  readonly db: HomeserverDatabase;
  readonly clock: Clock;
  readonly events: EventStore;
  readonly devices: DeviceStore;
  readonly registry: RoomRegistry;
  readonly sessions: Sessions;
  readonly format: EventFormatter;
  readonly notifier: Notifier;
  readonly ephemeral: Ephemeral;
  readonly userData: UserData;
};

/**
 * One position that an answer starts from; undefined fields mean "from the beginning". `lists` is the client's own position:
 * the key change of a user becomes news when that user enters a shared room, which may be later.
 */
type Since = {
  readonly stream: number | undefined;
  readonly ephemeral: number;
  readonly lists: number | undefined;
};
type Answer = { readonly body: JsonObject; readonly isEmpty: boolean };
type Scope = {
  readonly request: SyncRequest;
  readonly since: Since;
  readonly upTo: number;
  /** New account data by room; that of the user as a whole under "". */
  readonly accountData: ReadonlyMap<string, readonly AccountDataRow[]>;
};

export class SyncService {
  readonly #deps: SyncDeps;
  readonly #turns = new Turns();

  constructor(deps: SyncDeps) {
    this.#deps = deps;
  }

  /** Answers at once when there is news or no `since`; else on the first news or after the timeout. */
  async sync(request: SyncRequest): Promise<JsonObject> {
    const { clock, notifier, sessions } = this.#deps;
    const { session, signal, since: given } = request;
    if (given === undefined || request.fullState) return this.#wholeState(request);
    let since = this.#start(request);
    const deadline = clock.monotonic() + request.timeoutMs;
    for (;;) {
      const answer = this.#answer(request, since);
      const leftMs = deadline - clock.monotonic();
      if (!answer.isEmpty || leftMs <= 0 || notifier.closed) return answer.body;
      const { db, ephemeral } = this.#deps;
      since = { ...since, stream: db.position, ephemeral: ephemeral.position };
      const quietUpTo = await notifier.wait(this.#interest(request, since), leftMs, signal);
      if (signal.aborted) throw disconnected();
      // The client loses nothing: it asks the next server from the same position.
      if (notifier.closed) return { ...answer.body, next_batch: given };
      sessions.requireLive(session);
      since = { ...since, stream: quietUpTo ?? since.stream };
    }
  }

  async #wholeState(request: SyncRequest): Promise<JsonObject> {
    const { notifier, sessions } = this.#deps;
    await this.#turns.take();
    if (request.signal.aborted) throw disconnected();
    if (notifier.closed) throw new MatrixError(503, "M_UNKNOWN", "The homeserver is stopping");
    sessions.requireLive(request.session);
    return this.#answer(request, this.#start(request)).body;
  }

  #interest({ session, filter }: SyncRequest, since: Since): Interest {
    return {
      userId: session.userId,
      deviceId: session.deviceId,
      filter: filter.room,
      wantsPresence: !filter.presence.passesNothing,
      listsKnownAt: since.lists ?? 0,
    };
  }

  #start(request: SyncRequest): Since {
    if (request.since === undefined) return { stream: undefined, ephemeral: 0, lists: undefined };
    const { db, devices, ephemeral } = this.#deps;
    const token = parseToken(request.since);
    if (token.stream > db.position) throw invalidParam(`The since token ${request.since} is from the future`);
    devices.acknowledgeMessages(request.session.userId, request.session.deviceId, token.toDevice);
    return {
      stream: token.stream,
      ephemeral: token.run === ephemeral.run ? token.ephemeral : 0,
      lists: token.stream,
    };
  }

  #answer(request: SyncRequest, since: Since): Answer {
    const { db, ephemeral, devices } = this.#deps;
    const { userId, deviceId } = request.session;
    const scope: Scope = {
      request,
      since,
      upTo: db.position,
      accountData: this.#newAccountData(request, since),
    };
    const rooms = this.#rooms(scope);
    const accountData = this.#accountData(scope);
    const presence = this.#presence(scope);
    const toDevice = devices.messages(userId, deviceId, scope.upTo);
    const deviceLists = this.#deviceLists(scope);
    const isEmpty =
      accountData.length + presence.length + toDevice.contents.length + deviceLists.length === 0 &&
      Object.values(rooms).every((section) => Object.keys(section).length === 0);
    return {
      isEmpty,
      body: {
        next_batch: formatSyncToken({
          stream: scope.upTo,
          run: ephemeral.run,
          ephemeral: ephemeral.position,
          toDevice: toDevice.reach,
        }),
        rooms,
        account_data: { events: accountData },
        presence: { events: presence },
        to_device: { events: toDevice.contents },
        device_lists: { changed: deviceLists, left: [] },
        device_one_time_keys_count: devices.oneTimeKeyCounts(userId, deviceId),
        device_unused_fallback_key_types: devices.unusedFallbackTypes(userId, deviceId),
      },
    };
  }

  #rooms(scope: Scope): { join: JsonObject; invite: JsonObject; knock: JsonObject; leave: JsonObject } {
    const { registry } = this.#deps;
    const { session, filter } = scope.request;
    const rooms = {
      join: {} as JsonObject,
      invite: {} as JsonObject,
      knock: {} as JsonObject,
      leave: {} as JsonObject,
    };
    for (const [roomId, entry] of registry.membershipsOf(session.userId)) {
      if (!filter.room.acceptsRoom(roomId)) continue;
      const kind = entry.membership === "ban" ? "leave" : entry.membership;
      const section =
        kind === "join"
          ? this.#joinedRoom(scope, roomId, entry)
          : kind === "leave"
            ? this.#leftRoom(scope, roomId, entry)
            : this.#strippedRoom(scope, roomId, entry, kind);
      if (section !== undefined) rooms[kind][roomId] = section;
    }
    return rooms;
  }

  #joinedRoom(scope: Scope, roomId: string, entry: MembershipEntry): JsonObject | undefined {
    const { registry, userData, ephemeral } = this.#deps;
    const { fullState } = scope.request;
    const since = scope.since.stream;
    const isNew = since === undefined || (entry.stream > since && !this.#followed(scope, roomId, since));
    const newEvents = isNew || fullState || registry.lastStream(roomId) > since;
    const typing = ephemeral.typingSince(roomId, isNew ? 0 : scope.since.ephemeral);
    const hasOther =
      typing !== undefined ||
      userData.hasReceiptsSince(roomId, isNew ? 0 : since) ||
      scope.accountData.has(roomId);
    if (!newEvents && !hasOther) return undefined;
    return this.#joinedSection(scope, registry.get(roomId), { isNew, newEvents, typing });
  }

  #joinedSection(
    scope: Scope,
    room: RoomState,
    news: { isNew: boolean; newEvents: boolean; typing: string[] | undefined },
  ): JsonObject | undefined {
    const { request, upTo } = scope;
    const { session, filter, fullState } = request;
    const since = news.isNew ? undefined : scope.since.stream;
    const accountData = this.#roomAccountData(scope, room.roomId, since);
    const ephemeral = this.#roomEphemeral(scope, room.roomId, since, news.typing);
    const whole = since === undefined || fullState;
    const range: RoomRange = {
      state: room,
      since: whole ? undefined : since,
      upTo,
      timelineAfter: since ?? 0,
    };
    const section = buildRoomSection(this.#deps, range, filter.room, session);
    if (!whole && section.isEmpty && accountData.length === 0 && ephemeral.length === 0) return undefined;
    return {
      timeline: section.timeline,
      state: section.state,
      account_data: { events: accountData },
      ephemeral: { events: ephemeral },
      summary: section.membersChanged ? memberSummary(room, session.userId) : {},
      unread_notifications: { highlight_count: 0, notification_count: 0 },
    };
  }

  /** Whether the user was joined at `since` and at every moment after it. */
  #followed(scope: Scope, roomId: string, since: number): boolean {
    const { events } = this.#deps;
    const { userId } = scope.request.session;
    const history = events.stateHistory(roomId, "m.room.member", userId);
    const before = history.findLast((event) => event.stream <= since);
    const after = history.filter((event) => event.stream > since);
    return [before, ...after].every((event) => membershipOf(event?.content) === "join");
  }

  #leftRoom(scope: Scope, roomId: string, entry: MembershipEntry): JsonObject | undefined {
    const { events, registry } = this.#deps;
    const { session, filter } = scope.request;
    const since = scope.since.stream;
    if (since === undefined ? !filter.room.includeLeave || entry.forgotten : entry.stream <= since)
      return undefined;
    const known = since !== undefined && this.#wasJoined(scope, roomId, since);
    const stream = leavingStream(events, roomId, session.userId, entry.stream);
    // A user who was joined neither then nor later saw at most an invite, and gets no state.
    const sawInside = known || (since ?? 0) < lastJoin(events, roomId, session.userId);
    const range: RoomRange = {
      state: registry.get(roomId),
      since: known ? since : undefined,
      upTo: entry.stream,
      timelineAfter: known ? since : 0,
      left: { stream, state: sawInside ? events.stateAt(roomId, stream) : undefined },
    };
    const section = buildRoomSection(this.#deps, range, filter.room, session);
    return {
      timeline: section.timeline,
      state: section.state,
      account_data: { events: this.#roomAccountData(scope, roomId, since) },
    };
  }

  #wasJoined(scope: Scope, roomId: string, stream: number): boolean {
    const member = this.#deps.events.stateEventAt(
      roomId,
      "m.room.member",
      scope.request.session.userId,
      stream,
    );
    return membershipOf(member?.content) === "join";
  }

  #strippedRoom(
    scope: Scope,
    roomId: string,
    entry: MembershipEntry,
    kind: "invite" | "knock",
  ): JsonObject | undefined {
    const since = scope.since.stream;
    if (since !== undefined && entry.stream <= since && !scope.request.fullState) return undefined;
    const room = this.#deps.registry.get(roomId);
    const { userId } = scope.request.session;
    const own = room.get("m.room.member", userId);
    const shown = [
      ...strippedTypes.map((type) => room.get(type, "")),
      own === undefined || own.sender === userId ? undefined : room.get("m.room.member", own.sender),
      own,
    ];
    const events = shown.flatMap((event) => (event === undefined ? [] : [strippedEvent(event)]));
    return { [`${kind}_state`]: { events } };
  }

  #newAccountData(request: SyncRequest, since: Since): Map<string, AccountDataRow[]> {
    const { userData } = this.#deps;
    const { userId } = request.session;
    if (!userData.hasAccountDataSince(userId, since.stream ?? 0)) return new Map();
    return Map.groupBy(userData.store.accountDataSince(userId, since.stream ?? 0), (row) => row.room_id);
  }

  #roomAccountData(scope: Scope, roomId: string, since: number | undefined): JsonObject[] {
    const { session, filter } = scope.request;
    const rows =
      since === undefined && scope.since.stream !== undefined
        ? this.#deps.userData.store
            .accountDataSince(session.userId, 0)
            .filter((row) => row.room_id === roomId)
        : (scope.accountData.get(roomId) ?? []);
    return rows
      .filter((row) => filter.room.accountData.accepts({ type: row.type, room_id: roomId }))
      .map((row) => ({ type: row.type, content: JSON.parse(row.content) as JsonObject }));
  }

  #roomEphemeral(
    scope: Scope,
    roomId: string,
    since: number | undefined,
    typing: string[] | undefined,
  ): JsonObject[] {
    const { filter, session } = scope.request;
    const { userData } = this.#deps;
    const accepts = (type: string): boolean => filter.room.ephemeral.accepts({ type, room_id: roomId });
    const events: JsonObject[] = [];
    if (typing !== undefined && accepts("m.typing"))
      events.push({ type: "m.typing", content: { user_ids: typing } });
    if (!userData.hasReceiptsSince(roomId, since ?? 0) || !accepts("m.receipt")) return events;
    const content: Record<string, Record<string, Record<string, JsonObject>>> = {};
    for (const row of userData.store.receiptsSince(roomId, since ?? 0)) {
      if (row.type === "m.read.private" && row.user_id !== session.userId) continue;
      content[row.event_id] ??= {};
      const types = content[row.event_id] ?? {};
      types[row.type] ??= {};
      const users = types[row.type] ?? {};
      users[row.user_id] = { ts: row.ts, ...(row.thread_id === "" ? {} : { thread_id: row.thread_id }) };
    }
    if (Object.keys(content).length > 0) events.push({ type: "m.receipt", content });
    return events;
  }

  #accountData(scope: Scope): JsonObject[] {
    const { session, filter } = scope.request;
    const since = scope.since.stream;
    if (filter.accountData.passesNothing) return [];
    const stored = scope.accountData.get("") ?? [];
    const events = stored.map((row): { type: string; content: JsonObject } => ({
      type: row.type,
      content: JSON.parse(row.content) as JsonObject,
    }));
    if (since === undefined && !events.some((event) => event.type === "m.push_rules")) {
      events.push({ type: "m.push_rules", content: { global: defaultPushRules(session.userId) } });
    }
    return events.filter((event) => filter.accountData.accepts(event));
  }

  #presence(scope: Scope): JsonObject[] {
    const { ephemeral, registry, clock } = this.#deps;
    const { session, filter } = scope.request;
    if (filter.presence.passesNothing) return [];
    const events: JsonObject[] = [];
    for (const [userId, presence] of ephemeral.presencesSince(scope.since.ephemeral)) {
      if (userId !== session.userId && !registry.shareRoom(userId, session.userId)) continue;
      if (!filter.presence.accepts({ type: "m.presence", sender: userId })) continue;
      events.push({ type: "m.presence", sender: userId, content: presenceContent(presence, clock.now()) });
    }
    return events;
  }

  #deviceLists(scope: Scope): string[] {
    const { devices, registry } = this.#deps;
    const since = scope.since.lists;
    if (since === undefined) return [];
    const { userId } = scope.request.session;
    return devices
      .listChangesSince(since)
      .filter((other) => other === userId || registry.shareRoom(other, userId));
  }
}

/** Ends the handler of a request whose client disconnected: no client reads this answer. */
const disconnected = (): MatrixError => new MatrixError(499, "M_UNKNOWN", "The client disconnected");

/** The content of an m.presence event. */
export function presenceContent(presence: Presence, now: number): JsonObject {
  return {
    presence: presence.presence,
    last_active_ago: Math.max(0, now - presence.lastActive),
    currently_active: presence.presence === "online",
    ...(presence.statusMsg === undefined ? {} : { status_msg: presence.statusMsg }),
  };
}
