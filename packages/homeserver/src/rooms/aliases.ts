/** Room aliases: grammar, creation, removal, and permission for both. Aliases of other servers do not exist here. */
import type { Accounts } from "../auth/accounts.ts";
import { forbidden, invalidParam, MatrixError, notFound } from "../http/matrix-error.ts";
import type { HomeserverDatabase } from "../store/database.ts";
import type { RoomStore } from "../store/room-store.ts";
import { isJsonObject, type JsonObject, stringField } from "./room-event.ts";
import type { RoomRegistry } from "./room-registry.ts";
import type { RoomWriter } from "./room-writer.ts";

type Deps = {
  readonly db: HomeserverDatabase;
  readonly rooms: RoomStore;
  readonly registry: RoomRegistry;
  readonly writer: RoomWriter;
  readonly accounts: Accounts;
  readonly serverName: string;
};

const ALIAS_BYTES_MAX = 255;

export class Aliases {
  readonly #deps: Deps;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** The full alias for a localpart. M_INVALID_PARAM when the grammar forbids it. */
  fromLocalpart(localpart: string): string {
    const alias = `#${localpart}:${this.#deps.serverName}`;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the grammar forbids NUL
    if (localpart === "" || /[\s:\u0000]/.test(localpart)) {
      throw invalidParam("An alias name is not empty and holds no spaces, colons or NUL");
    }
    if (Buffer.byteLength(alias) > ALIAS_BYTES_MAX)
      throw invalidParam(`The alias is longer than ${ALIAS_BYTES_MAX} bytes`);
    return alias;
  }

  /** Checks that `alias` is well-formed and of this server. */
  parse(alias: string): string {
    const colon = alias.indexOf(":");
    if (!alias.startsWith("#") || colon < 2)
      throw invalidParam(`${JSON.stringify(alias.slice(0, 80))} is not a room alias`);
    if (alias.slice(colon + 1) !== this.#deps.serverName) {
      throw invalidParam(`${alias.slice(0, 120)} is not an alias of ${this.#deps.serverName}`);
    }
    return this.fromLocalpart(alias.slice(1, colon));
  }

  find(alias: string): { roomId: string; creator: string } | undefined {
    const row = this.#deps.rooms.alias(alias);
    return row === undefined ? undefined : { roomId: row.room_id, creator: row.creator };
  }

  /** For a new room: M_ROOM_IN_USE (400) when the alias is taken. */
  add(alias: string, roomId: string, creator: string): void {
    if (this.#deps.rooms.alias(alias) !== undefined) {
      throw new MatrixError(400, "M_ROOM_IN_USE", `Room alias ${alias} is already taken`);
    }
    this.#requireRight(alias, creator);
    this.#deps.rooms.insertAlias(alias, roomId, creator);
  }

  /** For an existing room: its members may add one. 409 when the alias is taken. */
  put(alias: string, roomId: string, userId: string): void {
    this.parse(alias);
    if (!this.#deps.registry.isJoined(roomId, userId)) throw forbidden(`You are not in room ${roomId}`);
    if (this.#deps.rooms.alias(alias) !== undefined) {
      throw new MatrixError(409, "M_UNKNOWN", `Room alias ${alias} already exists`);
    }
    this.#requireRight(alias, userId);
    this.#deps.rooms.insertAlias(alias, roomId, userId);
  }

  /** Allowed for its creator, a server admin, and users who may set the canonical alias, which is cleared with it. */
  remove(alias: string, user: { userId: string; isAdmin: boolean }): void {
    const { db, rooms, registry } = this.#deps;
    const row = rooms.alias(alias);
    if (row === undefined) throw notFound(`Room alias ${alias.slice(0, 255)} not found`);
    const state = registry.get(row.room_id);
    const levels = state.powerLevels();
    const needed = levels.toSend("m.room.canonical_alias", true);
    const isMember = state.membership(user.userId) === "join";
    const maySet = isMember && levels.ofUser(user.userId) >= needed;
    if (row.creator !== user.userId && !user.isAdmin && !maySet) {
      throw forbidden(
        `You need power level ${needed} in the room to remove ${alias}; you have ${levels.ofUser(user.userId)}`,
      );
    }
    db.transaction(() => {
      rooms.deleteAlias(alias);
      if (maySet) this.#clearCanonical(alias, row.room_id, user.userId);
    });
  }

  /** Refuses a canonical alias of another room (M_BAD_ALIAS). Earlier ones may stay. */
  checkCanonical(roomId: string, content: JsonObject): void {
    const before = this.#named(
      this.#deps.registry.get(roomId).get("m.room.canonical_alias", "")?.content ?? {},
    );
    for (const alias of this.#named(content)) {
      if (before.includes(alias)) continue;
      if (this.#deps.rooms.alias(alias)?.room_id !== roomId) {
        throw new MatrixError(
          400,
          "M_BAD_ALIAS",
          `Room alias ${alias.slice(0, 255)} does not point to this room`,
        );
      }
    }
  }

  /**
   * An alias with a slash belongs to the namespace before the slash, whose space has the alias `#<ns>`. Machines and agents trust
   * rooms by such names. Only a server admin, or a user who may add rooms to that space, creates one.
   */
  #requireRight(alias: string, userId: string): void {
    const { accounts, rooms, registry, serverName } = this.#deps;
    const slash = alias.indexOf("/");
    if (slash < 0 || accounts.find(userId)?.admin === 1) return;
    const namespace = alias.slice(1, slash);
    const space = rooms.alias(`#${namespace}:${serverName}`);
    const state = space === undefined ? undefined : registry.get(space.room_id);
    const levels = state?.powerLevels();
    if (
      state?.membership(userId) === "join" &&
      levels !== undefined &&
      levels.ofUser(userId) >= levels.toSend("m.space.child", true)
    )
      return;
    throw forbidden(
      `Room alias ${alias} is reserved: only a server admin, or a user who may add rooms to the space #${namespace}:${serverName}, may create it`,
    );
  }

  #named(content: JsonObject): string[] {
    const alternatives = content["alt_aliases"];
    const others = Array.isArray(alternatives)
      ? alternatives.filter((alias) => typeof alias === "string")
      : [];
    return [stringField(content, "alias") ?? "", ...others].filter((alias) => alias !== "");
  }

  #clearCanonical(alias: string, roomId: string, userId: string): void {
    const content = this.#deps.registry.get(roomId).get("m.room.canonical_alias", "")?.content;
    if (!isJsonObject(content) || !this.#named(content).includes(alias)) return;
    const { alias: main, alt_aliases: alternatives, ...rest } = content;
    const left: JsonObject = { ...rest };
    if (main !== undefined && main !== alias) left["alias"] = main;
    if (Array.isArray(alternatives)) left["alt_aliases"] = alternatives.filter((other) => other !== alias);
    this.#deps.writer.append({
      roomId,
      type: "m.room.canonical_alias",
      sender: userId,
      stateKey: "",
      content: left,
    });
  }
}
