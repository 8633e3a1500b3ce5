/**
 * The request rate of one user: a token bucket each, refilled at a steady rate. The cost of a write grows with its
 * bytes. The administrator and the machines get more than the users and agents. A request
 * without a valid token is counted by its address.
 */
import type { Clock } from "@bureau/kit/clock";
import { parseMachine } from "@bureau/schema/refs";
import type { Session } from "../auth/sessions.ts";
import { MatrixError } from "./matrix-error.ts";

type Allowance = { readonly burst: number; readonly perSecond: number };

/** A person at a client and an agent at work stay far below. */
const person = { write: { burst: 200, perSecond: 10 }, read: { burst: 1_000, perSecond: 50 } };
/** A machine of a hundred agents that comes back after an outage stays below. */
const keeper = { write: { burst: 4_000, perSecond: 200 }, read: { burst: 20_000, perSecond: 1_000 } };
const stranger: Allowance = { burst: 200, perSecond: 20 };
/** Bytes of a request that cost as much as the request itself. */
const BYTES_PER_TOKEN = 16_384;
/** Buckets in memory. Full ones are dropped first, then the oldest. */
const BUCKETS_MAX = 10_000;

export type LimitedRequest = {
  readonly session: Session | undefined;
  readonly remoteAddress: string | null;
  readonly isWrite: boolean;
  readonly bytes: number;
  /** Its cost, in ordinary requests. */
  readonly cost: number;
};

export class RateLimits {
  readonly #clock: Clock;
  readonly #buckets = new Map<string, { tokens: number; at: number; allowance: Allowance }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Counts a request. @throws MatrixError M_LIMIT_EXCEEDED with `retry_after_ms` */
  count(request: LimitedRequest): void {
    const { session, isWrite } = request;
    const cost = request.cost + (isWrite ? Math.floor(request.bytes / BYTES_PER_TOKEN) : 0);
    const waitMs =
      session === undefined
        ? this.#take(`at ${request.remoteAddress ?? "socket"}`, cost, strangerAt(request.remoteAddress))
        : this.#take(`${isWrite ? "write" : "read"} ${session.userId}`, cost, allowanceOf(session, isWrite));
    if (waitMs === 0) return;
    const who = session?.userId ?? "requests without an access token";
    throw new MatrixError(429, "M_LIMIT_EXCEEDED", `Too many requests from ${who}`, {
      retry_after_ms: Math.ceil(waitMs),
    });
  }

  /** 0 when there are enough tokens, else the milliseconds until there are. */
  #take(key: string, cost: number, allowance: Allowance): number {
    const now = this.#clock.monotonic();
    const { burst, perSecond } = allowance;
    const bucket = this.#buckets.get(key) ?? this.#open(key, allowance, now);
    bucket.tokens = Math.min(burst, bucket.tokens + ((now - bucket.at) / 1_000) * perSecond);
    bucket.at = now;
    const wanted = Math.min(cost, burst);
    if (bucket.tokens < wanted) return ((wanted - bucket.tokens) / perSecond) * 1_000;
    bucket.tokens -= wanted;
    return 0;
  }

  #open(key: string, allowance: Allowance, now: number) {
    if (this.#buckets.size >= BUCKETS_MAX) this.#forget(now);
    const bucket = { tokens: allowance.burst, at: now, allowance };
    this.#buckets.set(key, bucket);
    return bucket;
  }

  #forget(now: number): void {
    for (const [key, { tokens, at, allowance }] of this.#buckets)
      if (tokens + ((now - at) / 1_000) * allowance.perSecond >= allowance.burst) this.#buckets.delete(key);
    for (const key of this.#buckets.keys()) {
      if (this.#buckets.size < BUCKETS_MAX) return;
      this.#buckets.delete(key);
    }
  }
}

/** Only the installation's own programs reach a socket in a private folder, so requests there need no limit by address. */
const strangerAt = (address: string | null): Allowance => (address === null ? keeper.read : stranger);

function allowanceOf(session: Session, isWrite: boolean): Allowance {
  const allowances = session.isAdmin || isMachine(session.userId) ? keeper : person;
  return isWrite ? allowances.write : allowances.read;
}

function isMachine(userId: string): boolean {
  try {
    parseMachine(userId.slice(1, userId.indexOf(":")));
    return true;
  } catch {
    return false;
  }
}
