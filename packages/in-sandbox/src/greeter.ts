/**
 * The greeter: the first agent a person meets. It greets in one room, once per start, and answers what people write
 * there. It holds no key and opens no connection but the one to its proxy.
 *
 * It answers only what was written after its first look at the room, only `m.text`, never itself; it speaks in
 * `m.notice`, which agents do not answer, so that two of them never talk to each other without end. Every message has
 * a transaction of its own, so that a lost answer from the homeserver does not make it speak twice.
 */
import { delayMs, standardBackoff } from "@bureau/kit/backoff";
import type { Clock } from "@bureau/kit/clock";
import { isBureauError, messageOf } from "@bureau/kit/errors";
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import { backAgain, defaultGreeting, replyTo } from "./greeter-replies.ts";
import type { ProxyClient, TimelineEvent } from "./proxy-client.ts";

const PayloadSchema = v.object({
  /** Where it greets and listens: a room ID or alias. */
  room: v.pipe(v.string(), v.regex(/^[!#]./u, "room must be a room ID (!…) or an alias (#…)")),
  greeting: v.optional(v.pipe(v.string(), v.maxLength(4_000))),
});
export type GreeterPayload = v.InferOutput<typeof PayloadSchema>;

/** @throws InputError */
export const parsePayload = (text: string): GreeterPayload => parseJson(PayloadSchema, text, "payload");

const POLL_MS = 30_000;
/** Pages of 100 messages searched for an earlier greeting. */
const HISTORY_PAGES_MAX = 5;
/** Answers within {@link ANSWER_WINDOW_MS}; more and it keeps silent, whatever talks to it. */
const ANSWERS_MAX = 30;
const ANSWER_WINDOW_MS = 60_000;
/** How much of a message is printed. */
const SHOWN_LENGTH_MAX = 200;

export type GreeterOptions = {
  readonly client: ProxyClient;
  /** Reads the payload anew. @throws when it is not there or invalid */
  readonly readPayload: () => GreeterPayload;
  /** One line for whoever watches the terminal. */
  readonly print: (line: string) => void;
  readonly clock: Clock;
  /** Ends it. */
  readonly signal: AbortSignal;
};

export class Greeter {
  readonly #options: GreeterOptions;
  readonly #startId = crypto.randomUUID();
  /** Rooms greeted since the start. */
  readonly #greeted = new Set<string>();
  /** How far the room has been heard: kept over outages, so that what was said meanwhile is answered. */
  #heard: { readonly room: string; readonly token: string } | undefined;
  #answeredAt: number[] = [];
  #reload = new AbortController();

  constructor(options: GreeterOptions) {
    this.#options = options;
  }

  /** The payload has changed: read it again. */
  reload(): void {
    this.#reload.abort();
  }

  /** Runs until the signal aborts. Whatever is away, it waits and tries again. Never rejects. */
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
        // A refusal (not an outage) may be about where we were: begin anew.
        if (!isBureauError(error) || error.code !== "unavailable") this.#heard = undefined;
        const waitMs = delayMs(standardBackoff, attempt++);
        print(`${problemOf(error)}. Trying again in ${Math.ceil(waitMs / 1000)} s.`);
        await clock.sleep(waitMs, AbortSignal.any([signal, this.#reload.signal]));
      }
    }
  }

  async #attend(signal: AbortSignal): Promise<never> {
    const { readPayload, print } = this.#options;
    const client = this.#options.client.with(signal);
    const payload = readPayload();
    const { user_id: self } = await client.identity();
    print(`I am ${self}.`);
    const room = await this.#enter(client, payload.room);
    let token = this.#heard?.room === room ? this.#heard.token : undefined;
    // From here on messages are heard, those that answer the greeting among them.
    token ??= (await client.sync(room, undefined, 0)).nextBatch;
    this.#heard = { room, token };
    await this.#greet(client, room, self, payload);
    print(`Listening in ${payload.room}.`);
    for (;;) {
      const { nextBatch, events } = await client.sync(room, token, POLL_MS);
      for (const event of events) await this.#hear(client, room, self, event);
      token = nextBatch;
      this.#heard = { room, token };
    }
  }

  /** The room's ID; joins it when the principal is not in it yet and may. */
  async #enter(client: ProxyClient, address: string): Promise<string> {
    const room = await client.resolve(address);
    try {
      await client.messages(room, undefined);
    } catch (error) {
      if (!isBureauError(error) || error.code !== "forbidden") throw error;
      await client.join(room);
      this.#options.print(`Joined ${address}.`);
    }
    return room;
  }

  async #greet(client: ProxyClient, room: string, self: string, payload: GreeterPayload): Promise<void> {
    if (this.#greeted.has(room)) return;
    const before = await spokeBefore(client, room, self);
    const body = before ? backAgain(self) : (payload.greeting ?? defaultGreeting(self));
    // The same transaction for every try of this start: a greeting whose answer was lost is not sent twice.
    const transaction = `greeting-${this.#startId}-${plain(room)}`.slice(0, 128);
    await client.send(room, { msgtype: "m.text", body }, transaction);
    this.#greeted.add(room);
    this.#options.print(`Said: ${shown(body)}`);
  }

  async #hear(client: ProxyClient, room: string, self: string, event: TimelineEvent): Promise<void> {
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
      "m.relates_to": { "m.in_reply_to": { event_id: event.event_id } },
    };
    try {
      await client.send(room, content, `reply-${plain(event.event_id)}`.slice(0, 128));
      print(`Answered: ${shown(body)}`);
    } catch (error) {
      // What may pass later is tried again from the same place in the timeline; a refusal is final for this message.
      if (!isBureauError(error) || error.code === "unavailable") throw error;
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

async function spokeBefore(client: ProxyClient, room: string, self: string): Promise<boolean> {
  let from: string | undefined;
  for (let page = 0; page < HISTORY_PAGES_MAX; page++) {
    const { chunk, end } = await client.messages(room, from);
    if (chunk.some((event) => event.sender === self && event.type === "m.room.message")) return true;
    if (end === undefined || chunk.length === 0) return false;
    from = end;
  }
  return false;
}

const plain = (id: string): string => id.replaceAll(/[^A-Za-z0-9._-]/gu, "_");

/** One line, without anything a terminal would obey. */
function shown(text: string): string {
  const line = text.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, " ").trim();
  return line.length > SHOWN_LENGTH_MAX ? `${line.slice(0, SHOWN_LENGTH_MAX)}…` : line;
}

const problemOf = (error: unknown): string => shown(messageOf(error)).replace(/\.$/u, "");
