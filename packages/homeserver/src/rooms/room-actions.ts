/**
 * Membership acts, over the writer: create, join, leave, invite, kick, ban, and the consequences of a changed profile
 * or account. Each act is one transaction.
 */
import type { Clock } from "@bureau/kit/clock";
import type { Accounts } from "../auth/accounts.ts";
import { forbidden, invalidParam, MatrixError, notFound } from "../http/matrix-error.ts";
import type { HomeserverDatabase } from "../store/database.ts";
import type { RoomStore } from "../store/room-store.ts";
import type { JsonObject, Membership, RoomEvent } from "./room-event.ts";
import type { RoomRegistry } from "./room-registry.ts";
import type { RoomWriter } from "./room-writer.ts";

export type RoomActionsDeps = {
  readonly db: HomeserverDatabase;
  readonly clock: Clock;
  readonly rooms: RoomStore;
  readonly registry: RoomRegistry;
  readonly writer: RoomWriter;
  readonly accounts: Accounts;
};

export class RoomActions {
  readonly #deps: RoomActionsDeps;

  constructor(deps: RoomActionsDeps) {
    this.#deps = deps;
  }

  /** The room behind an ID or alias. Errors: M_INVALID_PARAM, M_NOT_FOUND. */
  resolve(roomIdOrAlias: string): string {
    if (roomIdOrAlias.startsWith("!")) return roomIdOrAlias;
    if (!roomIdOrAlias.startsWith("#"))
      throw invalidParam(`${JSON.stringify(roomIdOrAlias.slice(0, 80))} is no room ID or alias`);
    const alias = this.#deps.rooms.alias(roomIdOrAlias);
    if (alias === undefined) throw notFound(`Room alias ${roomIdOrAlias.slice(0, 255)} not found`);
    return alias.room_id;
  }

  /** Joins. Changes nothing for a member. M_NOT_FOUND for a room that does not exist. */
  join(userId: string, roomId: string, reason: string | undefined): void {
    const state = this.#deps.registry.find(roomId);
    if (state === undefined) throw notFound(`Room ${roomId.slice(0, 255)} not found`);
    if (state.membership(userId) === "join") return;
    this.setMembership({ roomId, sender: userId, target: userId, membership: "join", reason });
  }

  /** Sends the membership event of any transition, with the target's profile where it belongs. */
  setMembership(change: {
    roomId: string;
    sender: string;
    target: string;
    membership: Membership;
    reason: string | undefined;
    extra?: JsonObject;
  }): RoomEvent {
    const { roomId, sender, target, membership } = change;
    const content: JsonObject = { ...change.extra, membership };
    if (change.reason !== undefined) content["reason"] = change.reason;
    if (membership === "join" || membership === "invite" || membership === "knock") {
      Object.assign(content, this.#profile(target));
    }
    return this.#deps.writer.append({ roomId, type: "m.room.member", sender, stateKey: target, content });
  }

  invite(roomId: string, sender: string, target: string, reason: string | undefined, isDirect = false): void {
    this.#requireLocal(target);
    const extra = isDirect ? { is_direct: true } : {};
    this.setMembership({ roomId, sender, target, membership: "invite", reason, extra });
  }

  kick(roomId: string, sender: string, target: string, reason: string | undefined): void {
    const state = this.#deps.registry.get(roomId);
    const before = state.membership(target);
    if (before === "ban") throw forbidden(`${target} is banned: unban instead`);
    if (sender === target) throw forbidden("You cannot kick yourself: leave instead");
    this.setMembership({ roomId, sender, target, membership: "leave", reason });
  }

  unban(roomId: string, sender: string, target: string, reason: string | undefined): void {
    const state = this.#deps.registry.get(roomId);
    if (state.membership(sender) === "join" && state.membership(target) !== "ban") {
      throw forbidden(`${target} is not banned from this room`);
    }
    this.setMembership({ roomId, sender, target, membership: "leave", reason });
  }

  /** Leaves. A repeated leave changes nothing. */
  leave(roomId: string, userId: string, reason: string | undefined): void {
    const state = this.#deps.registry.find(roomId);
    const before = state?.membership(userId);
    if (state === undefined || before === undefined) throw forbidden(`You are not in room ${roomId}`);
    if (before === "leave") return;
    this.setMembership({ roomId, sender: userId, target: userId, membership: "leave", reason });
  }

  /** Copies a changed profile into every joined room. */
  spreadProfile(userId: string): void {
    this.#deps.db.transaction(() => {
      for (const [roomId, entry] of this.#deps.registry.membershipsOf(userId)) {
        if (entry.membership !== "join") continue;
        this.setMembership({ roomId, sender: userId, target: userId, membership: "join", reason: undefined });
      }
    });
  }

  /** Ends an account: leaves every room and ends its sessions, in one transaction. */
  deactivate(userId: string): void {
    const { db, registry, accounts } = this.#deps;
    db.transaction(() => {
      accounts.requireUser(userId);
      for (const [roomId, entry] of [...registry.membershipsOf(userId)]) {
        if (entry.membership === "leave" || entry.membership === "ban") continue;
        this.leave(roomId, userId, undefined);
      }
      accounts.deactivate(userId);
    });
  }

  #profile(userId: string): JsonObject {
    const user = this.#deps.accounts.find(userId);
    return {
      ...(user?.displayname == null ? {} : { displayname: user.displayname }),
      ...(user?.avatar_url == null ? {} : { avatar_url: user.avatar_url }),
    };
  }

  #requireLocal(userId: string): void {
    if (!/^@[^:]*:.+$/.test(userId))
      throw invalidParam(`${JSON.stringify(userId.slice(0, 80))} is not a user ID`);
    const server = userId.slice(userId.indexOf(":") + 1);
    if (server !== this.#deps.accounts.serverName) {
      throw new MatrixError(
        403,
        "M_FORBIDDEN",
        `${userId} is on ${server}, and this server does not federate`,
      );
    }
  }
}
