/**
 * Messages on their way to a room, in order, one at a time. Posting never waits and never fails: while the homeserver is
 * away they stay here, up to a limit, beyond which the oldest are dropped and counted. What the homeserver refuses for
 * good is dropped with a warning. Each has one transaction ID, so a retry is never a second message.
 */
import { randomUUID } from "node:crypto";
import { delayMs, standardBackoff } from "@bureau/kit/backoff";
import type { Clock } from "@bureau/kit/clock";
import type { Log } from "@bureau/kit/log";
import type { Runtime } from "@bureau/kit/runtime";
import { isRevoked, isTransient, MatrixError } from "@bureau/matrix/matrix-error";
import { Wakeup } from "../wakeup.ts";
import type { EventMessage } from "./event-message.ts";

const MESSAGES_MAX = 1_000;

export type Send = (content: EventMessage, txnId: string, signal: AbortSignal) => Promise<unknown>;

export type Message = { readonly content: EventMessage; readonly txnId: string };

type OutboxDeps = Runtime & {
  /** What an earlier program of this machine had not sent; the first to go. */
  readonly unsent?: readonly Message[];
  /** Nothing of {@link OutboxDeps.unsent} waits any more. */
  readonly onSent?: () => void;
};

export class Outbox {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #random: () => number;
  readonly #queue: Message[] = [];
  readonly #wakeup: Wakeup;
  #dropped = 0;
  #onSent: (() => void) | undefined;

  constructor(deps: OutboxDeps) {
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#random = deps.random;
    this.#wakeup = new Wakeup(deps.clock);
    this.#queue.push(...(deps.unsent ?? []));
    this.#onSent = deps.onSent;
  }

  post(content: EventMessage): void {
    this.#queue.push({ content, txnId: randomUUID() });
    if (this.#queue.length > MESSAGES_MAX) {
      this.#queue.shift();
      this.#dropped++;
    }
    this.#wakeup.mark();
  }

  /** How many messages wait. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** In order. */
  get unsent(): readonly Message[] {
    return this.#queue;
  }

  /** Sends until `signal` aborts. @throws the error that says this session was revoked */
  async run(send: Send, signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.#wakeup.mark(), { once: true });
    while (!signal.aborted) {
      const next = this.#queue[0];
      if (next === undefined) {
        this.#onSent?.();
        this.#onSent = undefined;
        await this.#wakeup.wait(undefined);
        continue;
      }
      if (this.#dropped > 0)
        this.#log.warn("outbox.dropped", "messages were dropped while they could not be sent", {
          count: this.#dropped,
        });
      this.#dropped = 0;
      await this.#deliver(next, send, signal);
      // While it was sent, the limit may have pushed it out already.
      if (this.#queue[0] === next && !signal.aborted) this.#queue.shift();
    }
  }

  async #deliver(message: Message, send: Send, signal: AbortSignal): Promise<void> {
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        await send(message.content, message.txnId, signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (isRevoked(error)) throw error;
        if (!isTransient(error)) {
          this.#log.warn("outbox.refused", "a message was refused and is dropped", {
            msgtype: message.content.msgtype,
            error,
          });
          return;
        }
        const asked = error instanceof MatrixError ? error.retryAfterMs : undefined;
        await this.#clock.sleep(asked ?? delayMs(standardBackoff, attempt, this.#random), signal);
      }
    }
  }
}
