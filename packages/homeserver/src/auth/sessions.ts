/**
 * Access tokens and the devices behind them. Tokens are random, kept only as SHA-256, and cached in memory by that
 * hash; every way of ending a session goes through here, so that no cached token outlives its row.
 */
import type { Clock } from "@bureau/kit/clock";
import { MatrixError } from "../http/matrix-error.ts";
import type { AccountStore } from "../store/account-store.ts";
import { BoundedCache } from "../store/bounded-cache.ts";
import { type HomeserverDatabase, isDiskFull } from "../store/database.ts";
import { randomLetters, randomToken } from "./random-id.ts";

export type Session = {
  readonly userId: string;
  readonly deviceId: string;
  readonly isAdmin: boolean;
  /** SHA-256 of the access token, in hex: which of the device's tokens this is. */
  readonly tokenHash: string;
};

/** Maximum cached sessions. */
const CACHE_MAX = 10_000;
/** A device's "last seen" is written at most this often, so that reads do not become writes. */
const LAST_SEEN_EVERY_MS = 10 * 60_000;

export class Sessions {
  readonly #db: HomeserverDatabase;
  readonly #accounts: AccountStore;
  readonly #clock: Clock;
  readonly #cache = new BoundedCache<Session>(CACHE_MAX);
  readonly #seenAt = new BoundedCache<number>(CACHE_MAX);
  readonly #ended = new Set<(userId: string, deviceId: string) => void>();

  constructor(db: HomeserverDatabase, accounts: AccountStore, clock: Clock) {
    this.#db = db;
    this.#accounts = accounts;
    this.#clock = clock;
  }

  /** The session of a token. Errors: M_MISSING_TOKEN, M_UNKNOWN_TOKEN (both 401). */
  authenticate(token: string | undefined, ip: string | null): Session {
    if (token === undefined || token === "")
      throw new MatrixError(401, "M_MISSING_TOKEN", "Missing access token");
    const hash = tokenHash(token);
    const session = this.#cache.get(hash) ?? this.#load(hash);
    if (session === undefined) throw unknownToken();
    this.#markSeen(session, ip);
    return session;
  }

  /** For a request that waited. Throws M_UNKNOWN_TOKEN when its session ended in the meantime. */
  requireLive(session: Session): void {
    if (this.#accounts.token(session.tokenHash) === undefined) throw unknownToken();
  }

  /** Opens a session on a new device, or on the named one (whose older tokens end). Returns the token. */
  open(
    userId: string,
    device: { id: string | undefined; name: string | undefined },
    ip: string | null,
  ): { token: string; deviceId: string } {
    const deviceId = device.id ?? randomLetters(10, true);
    const token = `bhs_${randomToken(32)}`;
    const now = this.#clock.now();
    this.#db.transaction(() => {
      this.#accounts.deleteTokensOfDevice(userId, deviceId);
      this.#accounts.upsertDevice(userId, deviceId, device.name ?? null, now, ip);
      this.#accounts.insertToken(tokenHash(token), userId, deviceId, now);
      this.#db.afterCommit(() =>
        this.#evict((session) => session.userId === userId && session.deviceId === deviceId),
      );
    });
    return { token, deviceId };
  }

  /** Ends a device with its tokens. */
  close(userId: string, deviceId: string): void {
    this.#db.transaction(() => {
      this.#accounts.deleteDevice(userId, deviceId);
      this.#db.afterCommit(() => this.#end(userId, deviceId));
    });
  }

  /** Ends all devices of a user except the given one. Returns the IDs of the ended devices. */
  closeAll(userId: string, exceptDeviceId?: string): string[] {
    const ids = this.#accounts
      .devices(userId)
      .map((device) => device.device_id)
      .filter((id) => id !== exceptDeviceId);
    this.#db.transaction(() => {
      for (const id of ids) this.close(userId, id);
    });
    return ids;
  }

  /** Drops the cached sessions of a user whose rights changed. */
  refresh(userId: string): void {
    this.#evict((session) => session.userId === userId);
  }

  /** Calls `listener` for every device that ends. */
  onEnded(listener: (userId: string, deviceId: string) => void): void {
    this.#ended.add(listener);
  }

  #end(userId: string, deviceId: string): void {
    this.#evict((session) => session.userId === userId && session.deviceId === deviceId);
    this.#seenAt.delete(`${userId} ${deviceId}`);
    for (const listener of this.#ended) listener(userId, deviceId);
  }

  #load(hash: string): Session | undefined {
    const row = this.#accounts.token(hash);
    if (row === undefined) return undefined;
    const user = this.#accounts.user(row.user_id);
    if (user === undefined || user.deactivated === 1) return undefined;
    const session = {
      userId: row.user_id,
      deviceId: row.device_id,
      isAdmin: user.admin === 1,
      tokenHash: hash,
    };
    this.#cache.set(hash, session);
    return session;
  }

  #evict(matches: (session: Session) => boolean): void {
    for (const [hash, session] of [...this.#cache]) if (matches(session)) this.#cache.delete(hash);
  }

  #markSeen(session: Session, ip: string | null): void {
    const key = `${session.userId} ${session.deviceId}`;
    const now = this.#clock.now();
    const last = this.#seenAt.get(key);
    if (last !== undefined && now - last < LAST_SEEN_EVERY_MS) return;
    this.#seenAt.set(key, now);
    try {
      this.#accounts.touchDevice(session.userId, session.deviceId, now, ip);
    } catch (error) {
      // A full disk must not fail requests that only read, so a failure to write "last seen" is ignored.
      if (!isDiskFull(error)) throw error;
    }
  }
}

const unknownToken = (): MatrixError =>
  new MatrixError(401, "M_UNKNOWN_TOKEN", "Unrecognised access token", { soft_logout: false });

const tokenHash = (token: string): string => new Bun.CryptoHasher("sha256").update(token).digest("hex");
