/**
 * Accounts: registering, logging in, passwords, profiles, deactivation. The first account is the server's admin.
 * The rule kept here: when an account changes hands or ends, its sessions end in the same transaction.
 */
import { timingSafeEqual } from "node:crypto";
import type { Clock } from "@bureau/kit/clock";
import type { Secret } from "@bureau/kit/secret";
import { forbidden, invalidParam, MatrixError, notFound } from "../http/matrix-error.ts";
import type { AccountStore, UserRow } from "../store/account-store.ts";
import type { HomeserverDatabase } from "../store/database.ts";
import { isDerivedPassword } from "./derived-password.ts";
import { GuessLimit } from "./guess-limit.ts";
import { hashPassword, verifyPassword } from "./passwords.ts";
import type { Sessions } from "./sessions.ts";

type Deps = {
  readonly db: HomeserverDatabase;
  readonly clock: Clock;
  readonly store: AccountStore;
  readonly sessions: Sessions;
  readonly serverName: string;
  readonly registrationToken: Secret;
};

/** Bytes of a whole user ID (Matrix specification, appendices). */
const USER_ID_BYTES_MAX = 255;

const wrongLogin = (): MatrixError => forbidden("Invalid user name or password");

export class Accounts {
  readonly #deps: Deps;
  readonly #guesses: GuessLimit;

  constructor(deps: Deps) {
    this.#deps = deps;
    this.#guesses = new GuessLimit(deps.clock);
  }

  get serverName(): string {
    return this.#deps.serverName;
  }

  /** Whether `token` is the registration token, in constant time. */
  isRegistrationToken(token: string): boolean {
    const digest = (text: string): Uint8Array => new Bun.CryptoHasher("sha256").update(text).digest();
    return timingSafeEqual(digest(token), digest(this.#deps.registrationToken.reveal()));
  }

  /** The user ID for a localpart that may be registered. Errors: M_INVALID_USERNAME, M_USER_IN_USE. */
  availableUserId(localpart: string): string {
    const userId = `@${localpart}:${this.#deps.serverName}`;
    if (!/^[a-z0-9._=\-/+]+$/.test(localpart)) {
      throw new MatrixError(400, "M_INVALID_USERNAME", "A user name is made of a-z 0-9 . _ = - / +");
    }
    if (Buffer.byteLength(userId) > USER_ID_BYTES_MAX) {
      throw new MatrixError(
        400,
        "M_INVALID_USERNAME",
        `${userId.slice(0, 40)}… is longer than ${USER_ID_BYTES_MAX} bytes`,
      );
    }
    if (this.#deps.store.user(userId) !== undefined) {
      throw new MatrixError(400, "M_USER_IN_USE", `User ID ${userId} is already taken`);
    }
    return userId;
  }

  /** Creates an account. */
  async register(localpart: string, password: string): Promise<string> {
    this.availableUserId(localpart);
    const hash = await this.#hash(localpart, password);
    const { db, store, clock } = this.#deps;
    return db.transaction(() => {
      // Check again: other requests ran while the password was hashed.
      const userId = this.availableUserId(localpart);
      store.insertUser(userId, hash, store.isEmpty(), clock.now(), localpart);
      return userId;
    });
  }

  #hash(localpart: string, password: string): Promise<string> {
    const token = this.#deps.registrationToken.reveal();
    return hashPassword(password, isDerivedPassword(password, localpart, token));
  }

  /** The full ID of a user named by ID or localpart, in the form logins give it. */
  userIdOf(name: string): string {
    return name.startsWith("@") ? name : `@${name.toLowerCase()}:${this.#deps.serverName}`;
  }

  /**
   * The user, when the password is right. `source` is where the attempt comes from.
   * Errors: M_FORBIDDEN, M_USER_DEACTIVATED (403), M_LIMIT_EXCEEDED.
   */
  async logIn(name: string, password: string, source: string): Promise<string> {
    const userId = this.userIdOf(name);
    // No user has such a name; store nothing for it.
    if (Buffer.byteLength(userId) > USER_ID_BYTES_MAX) throw wrongLogin();
    await this.#guesses.turn(source);
    const user = this.#deps.store.user(userId);
    const isRight = await verifyPassword(password, user?.password_hash ?? null);
    if (user !== undefined && this.#deps.store.user(userId)?.deactivated === 1) {
      throw new MatrixError(403, "M_USER_DEACTIVATED", `The account ${userId} is deactivated`);
    }
    if (!isRight || this.#deps.store.user(userId)?.password_hash !== user?.password_hash) {
      this.#guesses.failed(source);
      throw wrongLogin();
    }
    return userId;
  }

  /** Throws unless `password` is that of the user of the session. */
  async checkPassword(userId: string, password: string): Promise<void> {
    await this.logIn(userId, password, userId);
  }

  /** Sets a new password. On request, ends every session except that of `keepDeviceId`. */
  async changePassword(
    userId: string,
    password: string,
    logOut: boolean,
    keepDeviceId?: string,
  ): Promise<void> {
    this.requireUser(userId);
    const hash = await this.#hash(this.localpartOf(userId), password);
    const { db, store, sessions } = this.#deps;
    db.transaction(() => {
      if (this.requireUser(userId).deactivated === 1) throw forbidden(`The account ${userId} is deactivated`);
      store.setPassword(userId, hash);
      if (logOut) sessions.closeAll(userId, keepDeviceId);
    });
  }

  /** Reactivates a deactivated account with a new password. */
  async reactivate(userId: string, password: string): Promise<void> {
    const hash = await this.#hash(this.localpartOf(userId), password);
    const { db, store } = this.#deps;
    db.transaction(() => {
      store.reactivate(userId);
      store.setPassword(userId, hash);
    });
  }

  /** The localpart of a user ID of this server, or M_INVALID_PARAM. */
  localpartOf(userId: string): string {
    const suffix = `:${this.#deps.serverName}`;
    if (userId.startsWith("@") && userId.endsWith(suffix)) return userId.slice(1, -suffix.length);
    throw invalidParam(
      `${JSON.stringify(userId.slice(0, 120))} is not a user ID of ${this.#deps.serverName}`,
    );
  }

  /** Ends the account and its sessions. The caller leaves its rooms in the same transaction. */
  deactivate(userId: string): void {
    const { db, store, sessions } = this.#deps;
    db.transaction(() => {
      this.requireUser(userId);
      store.deactivate(userId);
      sessions.closeAll(userId);
      db.afterCommit(() => sessions.refresh(userId));
    });
  }

  /** M_NOT_FOUND when no user has this ID. */
  requireUser(userId: string): UserRow {
    const user = this.#deps.store.user(userId);
    if (user === undefined) throw notFound(`There is no user ${userId.slice(0, USER_ID_BYTES_MAX)}`);
    return user;
  }

  list(page: { withClosed: boolean; limit: number; from: number }): UserRow[] {
    return this.#deps.store.users(page);
  }

  find(userId: string): UserRow | undefined {
    return this.#deps.store.user(userId);
  }

  search(term: string): UserRow[] {
    return this.#deps.store.searchUsers(term);
  }

  setAdmin(userId: string, admin: boolean): void {
    this.#deps.store.setAdmin(userId, admin);
    this.#deps.sessions.refresh(userId);
  }

  setProfile(userId: string, displayname: string | null, avatarUrl: string | null): void {
    for (const value of [displayname, avatarUrl]) {
      if (value !== null && Buffer.byteLength(value) > 1_000)
        throw invalidParam("A profile field is longer than 1000 bytes");
    }
    this.#deps.store.setProfile(userId, displayname, avatarUrl);
  }
}
