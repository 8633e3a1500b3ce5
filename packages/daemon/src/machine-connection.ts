/**
 * The daemon's connection to the homeserver: verify the session, join the machine's rooms, publish what this machine is,
 * then sync. An unreachable homeserver is tried again without a limit. Only a revoked session or membership ends it.
 */
import { type BackoffPolicy, delayMs, retry } from "@bureau/kit/backoff";
import { BureauError, messageOf } from "@bureau/kit/errors";
import type { Runtime } from "@bureau/kit/runtime";
import type { StateEvent, TimelineEvent } from "@bureau/matrix/event";
import { isRevoked, isTransient, MatrixError } from "@bureau/matrix/matrix-error";
import type { RoomStateStore } from "@bureau/matrix/room-state";
import { runSyncLoop } from "@bureau/matrix/sync-loop";
import type { SyncResponse } from "@bureau/matrix/sync-response";
import { eventTypes } from "@bureau/schema/events";
import { ADMIN_LEVEL } from "@bureau/schema/power";
import type { MachineLocalpart, RoomId, ServerName } from "@bureau/schema/refs";
import { type Facts, publishFacts } from "./heartbeat/publish-facts.ts";
import { joinMachineRooms, type MachineRooms } from "./sync/machine-rooms.ts";
import type { RoomMembers } from "./sync/room-members.ts";
import type { OpenScope, SyncScope } from "./sync/sync-scope.ts";

/** An invitation is announced once, so a homeserver that is busy is asked again. */
const ACCEPT_ATTEMPTS_MAX = 10;

/** Number of strangers' invitations to log. */
const STRANGE_MAX = 100;

export type ConnectionDeps = Facts &
  Runtime & {
    readonly machine: MachineLocalpart;
    readonly server: ServerName;
    readonly states: RoomStateStore;
    readonly members: Pick<RoomMembers, "note">;
    /** The sync scope. */
    readonly scope: SyncScope;
    /** Delay before an unreachable homeserver is tried again; read before each wait. */
    readonly backoff: BackoffPolicy;
    /** The machine is in its rooms: messages can be sent. */
    readonly onRooms: (rooms: MachineRooms) => void;
    /** Rooms' state changed, were left, or we were invited to one (and may join others now). */
    readonly onChange: (change: { readonly left: readonly RoomId[]; readonly invited: boolean }) => void;
    /** Events in the config room since the daemon follows it. */
    readonly onConfigEvents: (events: readonly TimelineEvent[]) => void;
    /** It is in sync now, or no longer. */
    readonly onState: (state: ConnectionState) => void;
  };

/** State in rooms changed, rooms were left, or the machine was invited to one and may now be able to join others. */
export type RoomsChange = { readonly left: readonly RoomId[]; readonly invited: boolean };

/** `reason` says why it is not in sync. */
export type ConnectionState = {
  readonly kind: "starting" | "online" | "disconnected";
  readonly reason?: string;
};

/** The machine must join its rooms again, or learns there that it may not. */
const roomsLost = new Error("the homeserver no longer lists this machine in its rooms");

export class MachineConnection {
  readonly #deps: ConnectionDeps;
  #state: ConnectionState = { kind: "starting" };
  readonly #away = Promise.withResolvers<string>();
  /** Invitations that were logged. */
  readonly #strange = new Set<RoomId>();

  constructor(deps: ConnectionDeps) {
    this.#deps = deps;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Resolves with the reason when the homeserver was first found to be away; it may be back by then. */
  get foundAway(): Promise<string> {
    return this.#away.promise;
  }

  #disconnected(error: unknown): void {
    const reason = messageOf(error);
    this.#become({ kind: "disconnected", reason });
    this.#away.resolve(reason);
  }

  #become(state: ConnectionState): void {
    const { kind, reason } = this.#state;
    this.#state = state;
    if (state.kind !== kind || state.reason !== reason) this.#deps.onState(state);
  }

  /** Works until `signal` aborts. @throws BureauError `unauthorized` when this machine was revoked or removed */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const rooms = await this.#connect(signal);
      if (rooms === undefined) return;
      this.#deps.onRooms(rooms);
      try {
        await this.#follow(rooms, signal);
      } catch (error) {
        if (error !== roomsLost) throw error;
      }
    }
  }

  /** @throws `roomsLost` */
  async #follow(rooms: MachineRooms, signal: AbortSignal): Promise<void> {
    const { session, clock, random, backoff, log, scope } = this.#deps;
    while (!signal.aborted) {
      const open = scope.open();
      await runSyncLoop({
        session,
        clock,
        random,
        backoff,
        filter: open.filter,
        initialFilter: open.initialFilter,
        signal: AbortSignal.any([signal, open.grown]),
        onSync: (response, initial) => this.#takeIn(response, initial ? open : undefined, rooms, signal),
        onConnection: (connected, error) => {
          if (!connected) {
            log.warn("homeserver.unreachable", "the homeserver is unreachable; agents keep running", {
              error,
            });
            this.#disconnected(error);
          } else if (this.#state.kind !== "online")
            log.info("homeserver.in-sync", "in sync with the homeserver");
        },
      });
    }
  }

  /** Everything before the first sync, repeated until it succeeds. Undefined when `signal` aborted first. */
  async #connect(signal: AbortSignal): Promise<MachineRooms | undefined> {
    const { clock, random, backoff, log } = this.#deps;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        return await this.#introduce(signal);
      } catch (error) {
        if (signal.aborted) return undefined;
        if (isRevoked(error) || (error instanceof BureauError && error.code === "unauthorized")) throw error;
        // A missing room may appear later, as an unreachable homeserver may return. A wrong session stays wrong.
        if (!(error instanceof BureauError) || error.code === "invalid-input") throw error;
        this.#disconnected(error);
        const waitMs = delayMs(backoff, attempt, random);
        log.warn("homeserver.start-failed", "cannot connect to the homeserver yet", { error, waitMs });
        await clock.sleep(waitMs, signal);
      }
    }
    return undefined;
  }

  async #introduce(signal: AbortSignal): Promise<MachineRooms> {
    const { session, machine, server, log } = this.#deps;
    const { userId } = await session.whoami(signal).catch((error: unknown) => {
      // As on /sync, an account that may not even ask who it is was closed (wire facts, section 9.15).
      if (!(error instanceof MatrixError && error.code === "forbidden")) throw error;
      throw new BureauError("unauthorized", "The account of this machine was closed", { cause: error });
    });
    if (userId !== session.userId)
      throw new BureauError(
        "invalid-input",
        `The session is of ${userId}, but this machine is ${session.userId}`,
      );
    const rooms = await joinMachineRooms(session, machine, server, log, signal);
    await publishFacts(this.#deps, rooms);
    return rooms;
  }

  /** `initial` when the answer is all there is in this scope. */
  #takeIn(
    response: SyncResponse,
    initial: OpenScope | undefined,
    rooms: MachineRooms,
    signal: AbortSignal,
  ): void {
    const { states, members, log } = this.#deps;
    // An initial sync omits rooms the machine is no longer in, as after a restore of the homeserver from a backup.
    const lost =
      initial !== undefined ? states.joinedRooms().filter((room) => !response.joined.has(room)) : [];
    if (initial !== undefined) states.begin(initial.keeps);
    const changed = states.apply(response);
    members.note(response, initial !== undefined);
    const left = [...response.left, ...lost];
    if (response.left.includes(rooms.config))
      throw new BureauError("unauthorized", "This machine was removed from its config room");
    if (Object.values(rooms).some((room) => lost.includes(room))) {
      this.#deps.onChange({ left, invited: false });
      throw roomsLost;
    }
    // Earlier messages were for an earlier daemon.
    if (initial === undefined) this.#deps.onConfigEvents(response.joined.get(rooms.config)?.timeline ?? []);
    // Listeners wait for that, also when nothing else is new.
    const isBack = this.#state.kind !== "online";
    this.#become({ kind: "online" });
    for (const [room, events] of response.invited)
      this.#answer(room, events, rooms, signal).catch((error: unknown) =>
        log.warn("room.invitation-failed", "cannot accept an invitation", { room, error }),
      );
    if (initial !== undefined || isBack || changed.size > 0) this.#deps.onChange({ left, invited: false });
  }

  /**
   * Accepts an administrator's invitation. The room directory accepts other users' invitations to rooms that the
   * configuration names; all others stay pending.
   */
  async #answer(
    room: RoomId,
    events: readonly StateEvent[],
    rooms: MachineRooms,
    signal: AbortSignal,
  ): Promise<void> {
    const { session, clock, random, log } = this.#deps;
    const inviter = events.find(
      ({ type, stateKey }) => type === eventTypes.member && stateKey === session.userId,
    )?.sender;
    if (inviter !== undefined && this.#isAdministrator(inviter, rooms)) {
      const act = (): Promise<RoomId> => session.joinRoom(room, signal);
      await retry(act, { clock, random, signal, isTransient, attemptsMax: ACCEPT_ATTEMPTS_MAX });
    } else if (!this.#strange.has(room) && this.#strange.size < STRANGE_MAX) {
      this.#strange.add(room);
      log.warn(
        "room.invitation-refused",
        "an invitation is not accepted: its sender is not an administrator of this fleet",
        {
          room,
          inviter,
        },
      );
    }
    this.#deps.onChange({ left: [], invited: true });
  }

  #isAdministrator(user: string, { config, fleet }: MachineRooms): boolean {
    const { states } = this.#deps;
    return [config, ...(fleet === undefined ? [] : [fleet])].some(
      (room) => (states.room(room)?.levelOf(user) ?? 0) >= ADMIN_LEVEL,
    );
  }
}
