/**
 * The greeter: the first agent of a user. It greets in one room, once per start, and answers messages there. It holds no
 * key and connects only to its proxy.
 *
 * It answers only `m.text` messages that others sent after its first sync of the room. It sends `m.notice`, which agents do
 * not answer, so that two greeters never talk to each other endlessly. Each message has a transaction ID of its own, so
 * that a lost response of the homeserver does not send it twice.
 */
import { delayMs, standardBackoff } from "@bureau/kit/backoff";
import type { Clock } from "@bureau/kit/clock";
import { BureauError, messageOf } from "@bureau/kit/errors";
import type { TimelineEvent } from "@bureau/matrix/event";
import { parseTimelineEvents } from "@bureau/matrix/event";
import { isTransient, MatrixError } from "@bureau/matrix/matrix-error";
import type { MatrixSession } from "@bureau/matrix/session";
import { parseJson } from "@bureau/schema/parse";
import { parseRoomAlias, parseRoomId, type RoomId, type UserId } from "@bureau/schema/refs";
import * as v from "valibot";
import { backAgain, defaultGreeting, replyTo } from "./greeter-replies.ts";

const PayloadSchema = v.object({
  /** Where it greets and listens: a room ID or alias. */
  room: v.pipe(v.string(), v.regex(/^[!#]./u, "room must be a room ID (!…) or an alias (#…)")),
  greeting: v.optional(v.pipe(v.string(), v.maxLength(4_000))),
});
export type GreeterPayload = v.InferOutput<typeof PayloadSchema>;

/** @throws InputError */
export const parsePayload = (text: string): GreeterPayload => parseJson(PayloadSchema, text, "payload");

const POLL_MS = 30_000;
/** Pages searched for an earlier greeting. */
const HISTORY_PAGES_MAX = 5;
const HISTORY_PAGE_EVENTS = 100;
/** Answers within {@link ANSWER_WINDOW_MS}; beyond them it stays silent. */
const ANSWERS_MAX = 30;
const ANSWER_WINDOW_MS = 60_000;
/** How much of a message is printed. */
const SHOWN_LENGTH_MAX = 200;

export type GreeterOptions = {
  /** Opens the principal's session; `signal` ends its calls. @throws MatrixError */
  readonly openSession: (signal: AbortSignal) => Promise<MatrixSession>;
  /** Reads the payload again. @throws when it is not there or invalid */
  readonly readPayload: () => GreeterPayload;
  /** One line for the terminal. */
  readonly print: (line: string) => void;
  readonly clock: Clock;
  /** Stops the greeter. */
  readonly signal: AbortSignal;
};

export class Greeter {
  readonly #options: GreeterOptions;
  readonly #startId = crypto.randomUUID();
  /** Rooms greeted since the start. */
  readonly #greeted = new Set<string>();
  /** How far the room has been heard: kept over outages, so that what was said meanwhile is answered. */
  #heard: { readonly room: RoomId; readonly token: string } | undefined;
  #answeredAt: number[] = [];
  #reload = new AbortController();

  constructor(options: GreeterOptions) {
    this.#options = options;
  }

  /** The payload has changed: read it again. */
  reload(): void {
    this.#reload.abort();
  }

  /** Runs until the signal aborts. Waits out every outage. Never rejects. */
  async run(): Promise<void> {
    const { clock, signal, print } = this.#options;
    for (let attempt = 0; !signal.aborted; ) {
      if (this.#reload.signal.aborted) this.#reload = new AbortController();
      const started = clock.monotonic();
      try {
        await this.#attend(AbortSignal.any([signal, this.#reload.signal]));
      } catch (error) {
        if (signal.aborted) return;
        if (this.#reload.signal.aborted) {
          print("My payload has changed; reading it again.");
          continue;
        }
        if (clock.monotonic() - started > standardBackoff.maxMs) attempt = 0;
        // A refusal (not an outage) may be about the position in the timeline: start from the present.
        if (!isTransient(error)) this.#heard = undefined;
        const waitMs = delayMs(standardBackoff, attempt++);
        print(`${problemOf(error)}. Trying again in ${Math.ceil(waitMs / 1000)} s.`);
        await clock.sleep(waitMs, AbortSignal.any([signal, this.#reload.signal]));
      }
    }
  }

  async #attend(signal: AbortSignal): Promise<never> {
    const { readPayload, print } = this.#options;
    const payload = readPayload();
    const session = await this.#options.openSession(signal);
    const self = session.userId;
    print(`I am ${self}.`);
    const room = await this.#enter(session, payload.room);
    let token = this.#heard?.room === room ? this.#heard.token : undefined;
    // Messages are heard from here on, also those that answer the greeting.
    token ??= (await session.sync({ timeoutMs: 0, filter: messagesOnly(room) })).nextBatch;
    this.#heard = { room, token };
    await this.#greet(session, room, self, payload);
    print(`Listening in ${payload.room}.`);
    for (;;) {
      const { nextBatch, joined } = await session.sync({
        since: token,
        timeoutMs: POLL_MS,
        filter: messagesOnly(room),
      });
      for (const event of joined.get(room)?.timeline ?? []) await this.#hear(session, room, event);
      token = nextBatch;
      this.#heard = { room, token };
    }
  }

  /** The room's ID; joins it when the principal is not in it yet and may. */
  async #enter(session: MatrixSession, address: string): Promise<RoomId> {
    const room = await roomAt(session, address);
    try {
      await session.messages(room, { limit: 1 });
    } catch (error) {
      if (!(error instanceof MatrixError && error.code === "forbidden")) throw error;
      await session.joinRoom(room);
      this.#options.print(`Joined ${address}.`);
    }
    return room;
  }

  async #greet(session: MatrixSession, room: RoomId, self: UserId, payload: GreeterPayload): Promise<void> {
    if (this.#greeted.has(room)) return;
    const before = await spokeBefore(session, room, self);
    const body = before ? backAgain(self) : (payload.greeting ?? defaultGreeting(self));
    // The same transaction for every try of this start: a greeting whose answer was lost is not sent twice.
    const transaction = `greeting-${this.#startId}-${plain(room)}`.slice(0, 128);
    await session.sendMessage(room, { msgtype: "m.text", body }, { txnId: transaction });
    this.#greeted.add(room);
    this.#options.print(`Said: ${shown(body)}`);
  }

  async #hear(session: MatrixSession, room: RoomId, event: TimelineEvent): Promise<void> {
    const self = session.userId;
    const { clock, print } = this.#options;
    const text = spokenText(event, self);
    if (text === undefined) return;
    print(`${event.sender}: ${shown(text)}`);
    const now = clock.now();
    this.#answeredAt = this.#answeredAt.filter((at) => now - at < ANSWER_WINDOW_MS);
    if (this.#answeredAt.length >= ANSWERS_MAX)
      return print("(too many messages; I keep silent for a while)");
    this.#answeredAt.push(now);
    const body = replyTo(text, { self, sender: event.sender, nowMs: now });
    const content = {
      msgtype: "m.notice",
      body,
      "m.relates_to": { "m.in_reply_to": { event_id: event.eventId } },
    };
    try {
      await session.sendMessage(room, content, { txnId: `reply-${plain(event.eventId)}`.slice(0, 128) });
      print(`Answered: ${shown(body)}`);
    } catch (error) {
      // An outage: the message is answered later, from the same position in the timeline. A refusal is final for it.
      if (!(error instanceof MatrixError) || isTransient(error)) throw error;
      print(`I could not answer: ${messageOf(error)}`);
    }
  }
}

/** What a person said to the room: new, plain text, not our own words. */
function spokenText(event: TimelineEvent, self: string): string | undefined {
  const { content } = event;
  if (event.type !== "m.room.message" || event.sender === self || content["msgtype"] !== "m.text")
    return undefined;
  const relation = content["m.relates_to"];
  const isEdit =
    typeof relation === "object" &&
    relation !== null &&
    "rel_type" in relation &&
    relation.rel_type === "m.replace";
  return isEdit || typeof content["body"] !== "string" ? undefined : content["body"];
}

/** The room's ID. @throws MatrixError; BureauError `not-found` for an alias of no room */
async function roomAt(session: MatrixSession, address: string): Promise<RoomId> {
  if (!address.startsWith("#")) return parseRoomId(address);
  const room = await session.resolveAlias(parseRoomAlias(address));
  if (room === undefined) throw new BureauError("not-found", `There is no room "${address}"`);
  return room;
}

async function spokeBefore(session: MatrixSession, room: RoomId, self: UserId): Promise<boolean> {
  let from: string | undefined;
  for (let page = 0; page < HISTORY_PAGES_MAX; page++) {
    const { chunk, end } = await session.messages(room, {
      limit: HISTORY_PAGE_EVENTS,
      ...(from === undefined ? {} : { from }),
    });
    if (parseTimelineEvents(chunk).some((event) => event.sender === self && event.type === "m.room.message"))
      return true;
    if (end === undefined || chunk.length === 0) return false;
    from = end;
  }
  return false;
}

/** A filter of /sync: messages of `room` and nothing else. */
function messagesOnly(room: RoomId): unknown {
  const nothing = { not_types: ["*"] };
  return {
    presence: nothing,
    account_data: nothing,
    room: {
      rooms: [room],
      timeline: { types: ["m.room.message"], limit: 50 },
      state: nothing,
      ephemeral: nothing,
      account_data: nothing,
    },
  };
}

const plain = (id: string): string => id.replaceAll(/[^A-Za-z0-9._-]/gu, "_");

/** One line without control characters. */
function shown(text: string): string {
  const line = text.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, " ").trim();
  return line.length > SHOWN_LENGTH_MAX ? `${line.slice(0, SHOWN_LENGTH_MAX)}…` : line;
}

const problemOf = (error: unknown): string => shown(messageOf(error)).replace(/\.$/u, "");
