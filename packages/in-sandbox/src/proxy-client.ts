/** A program's own proxy, seen from inside its sandbox: identity and Matrix in single calls (wire facts, section 7.2). */

import { systemClock } from "@bureau/kit/clock";
import { BureauError, errnoOf } from "@bureau/kit/errors";
import { retryAfterMs, waitOutRateLimit } from "@bureau/kit/rate-limit";
import { viaSocket } from "@bureau/os/egress";
import { jsonObject, parse } from "@bureau/schema/parse";
import * as v from "valibot";

const IdentitySchema = v.object({ user_id: v.string(), server_name: v.string() });
export type Identity = v.InferOutput<typeof IdentitySchema>;
const RoomSchema = v.object({ room_id: v.string() });
const SentSchema = v.object({ event_id: v.string() });
const EventSchema = v.object({
  event_id: v.string(),
  type: v.string(),
  sender: v.string(),
  content: jsonObject,
});
export type TimelineEvent = v.InferOutput<typeof EventSchema>;
const MessagesSchema = v.object({ chunk: v.array(EventSchema), end: v.optional(v.string()) });
const SyncSchema = v.object({
  next_batch: v.string(),
  rooms: v.optional(
    v.object({
      join: v.optional(
        v.record(v.string(), v.object({ timeline: v.optional(v.object({ events: v.array(EventSchema) })) })),
      ),
    }),
  ),
});
const RefusalSchema = v.object({ error: v.optional(v.string()), errcode: v.optional(v.string()) });

/** Time for one call; a long poll gets its own waiting time on top. */
const CALL_MS_MAX = 30_000;
/** How long one call waits in all for the homeserver's rate limit. */
const RATE_LIMIT_MS_MAX = 120_000;

/** The homeserver's refusal because of its rate limit, which the proxy hands on. */
class RateLimited extends BureauError {
  constructor(
    message: string,
    readonly retryAfterMs: number | undefined,
  ) {
    super("unavailable", message);
  }
}

export type Sync = {
  readonly nextBatch: string;
  /** New events of the room asked for, oldest first. */
  readonly events: readonly TimelineEvent[];
};

/** Every method @throws BureauError: `unavailable` when trying again later may help, else the proxy's refusal. */
export class ProxyClient {
  readonly #socket: string;
  readonly #signal: AbortSignal;

  constructor(socket: string, signal: AbortSignal) {
    this.#socket = socket;
    this.#signal = signal;
  }

  /** The same client whose calls also end with `signal`. */
  with(signal: AbortSignal): ProxyClient {
    return new ProxyClient(this.#socket, AbortSignal.any([this.#signal, signal]));
  }

  identity(): Promise<Identity> {
    return this.#get(IdentitySchema, "identity", {});
  }

  /** A room ID for an ID or alias. */
  async resolve(room: string): Promise<string> {
    if (!room.startsWith("#")) return room;
    return (await this.#get(RoomSchema, "matrix/resolve", { alias: room })).room_id;
  }

  async join(room: string): Promise<void> {
    await this.#post(RoomSchema, "matrix/join", { room });
  }

  /** Sends m.room.message once, however often it is called with the same `transactionId`. */
  async send(room: string, content: Readonly<Record<string, unknown>>, transactionId: string): Promise<void> {
    await this.#post(SentSchema, "matrix/message", { room, content, transaction_id: transactionId });
  }

  /** One page of history, newest first. */
  messages(room: string, from: string | undefined): Promise<v.InferOutput<typeof MessagesSchema>> {
    return this.#get(MessagesSchema, "matrix/messages", {
      room,
      limit: "100",
      ...(from === undefined ? {} : { from }),
    });
  }

  /** Messages of `room` since `since`; without `since`, where the timeline stands now. */
  async sync(room: string, since: string | undefined, waitMs: number): Promise<Sync> {
    const query = {
      filter: messagesOnly(room),
      timeout: String(since === undefined ? 0 : waitMs),
      ...(since === undefined ? {} : { since }),
    };
    const answer = await this.#get(SyncSchema, "matrix/sync", query, waitMs);
    return { nextBatch: answer.next_batch, events: answer.rooms?.join?.[room]?.timeline?.events ?? [] };
  }

  #get<const Schema extends v.GenericSchema>(
    schema: Schema,
    path: string,
    query: Readonly<Record<string, string>>,
    waitMs = 0,
  ): Promise<v.InferOutput<Schema>> {
    return this.#call(schema, `${path}?${new URLSearchParams(query)}`, { method: "GET" }, waitMs);
  }

  #post<const Schema extends v.GenericSchema>(
    schema: Schema,
    path: string,
    body: unknown,
  ): Promise<v.InferOutput<Schema>> {
    return this.#call(schema, path, { method: "POST", body: JSON.stringify(body) }, 0);
  }

  #call<const Schema extends v.GenericSchema>(
    ...call: [schema: Schema, path: string, init: { method: string; body?: string }, waitMs: number]
  ): Promise<v.InferOutput<Schema>> {
    return waitOutRateLimit(() => this.#callOnce(...call), {
      what: call[1],
      maxMs: RATE_LIMIT_MS_MAX,
      clock: systemClock,
      signal: this.#signal,
      limitOf: (error) => (error instanceof RateLimited ? error : undefined),
    });
  }

  async #callOnce<const Schema extends v.GenericSchema>(
    schema: Schema,
    path: string,
    init: { method: string; body?: string },
    waitMs: number,
  ): Promise<v.InferOutput<Schema>> {
    const signal = AbortSignal.any([this.#signal, AbortSignal.timeout(CALL_MS_MAX + waitMs)]);
    let status: number;
    let answer: unknown;
    let retryAfter: string | null;
    try {
      const response = await fetch(`http://localhost/v1/${path}`, {
        ...init,
        signal,
        ...viaSocket(this.#socket),
      });
      ({ status } = response);
      retryAfter = response.headers.get("retry-after");
      answer = await response.json();
    } catch (error) {
      throw new BureauError(
        "unavailable",
        `Cannot reach the proxy at "${this.#socket}": ${errnoOf(error) ?? (error instanceof Error ? error.name : "")}`,
      );
    }
    if (status === 200) return parse(schema, answer, `answer to ${path.split("?")[0]}`);
    throw refusalOf(status, answer, retryAfterMs(retryAfter, answer, systemClock.now()));
  }
}

function refusalOf(status: number, answer: unknown, retryAfter: number | undefined): BureauError {
  const parsed = v.safeParse(RefusalSchema, answer);
  const text = (parsed.success ? parsed.output.error : undefined) ?? `status ${status}`;
  if (status === 429 || (parsed.success && parsed.output.errcode === "M_LIMIT_EXCEEDED"))
    return new RateLimited(text, retryAfter);
  if (status === 403) return new BureauError("forbidden", text);
  if (status === 404 || (parsed.success && parsed.output.errcode === "M_NOT_FOUND"))
    return new BureauError("not-found", text);
  return new BureauError(status >= 500 ? "unavailable" : "failed", text);
}

function messagesOnly(room: string): string {
  const nothing = { not_types: ["*"] };
  return JSON.stringify({
    presence: nothing,
    account_data: nothing,
    room: {
      rooms: [room],
      timeline: { types: ["m.room.message"], limit: 50 },
      state: nothing,
      ephemeral: nothing,
      account_data: nothing,
    },
  });
}
