/**
 * Sends the audit log to the config room, in its order, one event at a time. An event has one transaction ID, from its
 * place in the chain, so a repeated send is one event. Nothing is given up: what the homeserver refuses is sent again
 * later, because a chain without it has a gap.
 */
import { delayMs, standardBackoff } from "@bureau/kit/backoff";
import type { Runtime } from "@bureau/kit/runtime";
import { isRevoked, isTransient, MatrixError } from "@bureau/matrix/matrix-error";
import type { MatrixSession } from "@bureau/matrix/session";
import { type ChainedAudit, ChainedAuditSchema } from "@bureau/schema/audit";
import { eventTypes } from "@bureau/schema/events";
import type { RoomId } from "@bureau/schema/refs";
import * as v from "valibot";
import { Wakeup } from "../wakeup.ts";
import type { AuditFile } from "./audit-file.ts";

/** After a refusal, such as levels that do not let the machine write. */
const REFUSED_MS = 300_000;

export type AuditSenderDeps = Runtime & {
  readonly file: AuditFile;
  readonly session: Pick<MatrixSession, "sendEvent" | "messages" | "userId">;
};

export class AuditSender {
  readonly #deps: AuditSenderDeps;
  readonly #wakeup: Wakeup;
  #refused = false;

  constructor(deps: AuditSenderDeps) {
    this.#deps = deps;
    this.#wakeup = new Wakeup(deps.clock);
  }

  /** There may be something to send. */
  mark(): void {
    this.#wakeup.mark();
  }

  /** Sends until `signal` aborts. @throws the error that says this session was revoked */
  async run(room: RoomId, signal: AbortSignal): Promise<void> {
    const { file } = this.#deps;
    signal.addEventListener("abort", () => this.#wakeup.mark(), { once: true });
    // A transaction ID is forgotten after a day, or with the session: the room itself says what it has.
    if (file.hasUnsent) await this.#retrying(() => this.#recognise(room), signal);
    while (!signal.aborted) {
      const event = await file.next();
      if (event === undefined) await this.#wakeup.wait(undefined);
      else await this.#retrying(() => this.#send(room, event, signal), signal);
    }
  }

  async #send(room: RoomId, event: ChainedAudit, signal: AbortSignal): Promise<void> {
    const txnId = `audit-${event.chain}-${event.sequence}`;
    await this.#deps.session.sendEvent(room, eventTypes.audit, event, { txnId, signal });
    this.#refused = false;
    this.#deps.file.markSent(event);
  }

  /** Marks as sent what the room has: the daemon may have been killed between a send and its note. */
  async #recognise(room: RoomId): Promise<void> {
    const { file, session } = this.#deps;
    const options = { types: [eventTypes.audit], senders: [session.userId], limit: 1 };
    const last = (await session.messages(room, options)).chunk[0]?.["content"];
    if (!v.is(ChainedAuditSchema, last) || last.chain !== file.head.chain) return;
    for (;;) {
      const event = await file.next();
      if (event === undefined || event.sequence > last.sequence) return;
      file.markSent(event);
    }
  }

  async #retrying(act: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const { clock, log, random } = this.#deps;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        return await act();
      } catch (error) {
        if (signal.aborted) return;
        if (isRevoked(error)) throw error;
        const asked = error instanceof MatrixError ? error.retryAfterMs : undefined;
        const refused = error instanceof MatrixError && !isTransient(error);
        if (refused && !this.#refused)
          log.error("audit.refused", "the homeserver refuses audit events; they stay on this machine", {
            error,
            hint: "an administrator raises the levels of the config room: bureau matrix setup",
          });
        this.#refused = refused;
        await clock.sleep(
          refused ? REFUSED_MS : (asked ?? delayMs(standardBackoff, attempt, random)),
          signal,
        );
      }
    }
  }
}
