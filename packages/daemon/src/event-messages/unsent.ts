/**
 * Messages that outlive a daemon which is replaced by another version. Their transaction IDs go with them, so what was
 * sent just before is no second message when it is sent again; the file is there until all of them have gone out, also
 * over a version that crashes first.
 */
import { rmSync } from "node:fs";
import type { Log } from "@bureau/kit/log";
import { readIfPresent, writeAtomically } from "@bureau/os/durable-file";
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import type { EventMessage } from "./event-message.ts";
import type { Message } from "./outbox.ts";

const UnsentSchema = v.array(
  v.object({
    // A program of ours wrote it, from a eventMessage.
    content: v.custom<EventMessage>(
      (value) => typeof value === "object" && value !== null && "msgtype" in value,
    ),
    txnId: v.string(),
  }),
);

/** Messages must not hold up what takes this daemon's place: those that cannot be written are lost. */
export function keepUnsent(file: string, messages: readonly Message[], log: Log): void {
  try {
    if (messages.length === 0) rmSync(file, { force: true });
    else writeAtomically(file, JSON.stringify(messages), 0o600);
  } catch (error) {
    log.warn("outbox.unsent-lost", "messages that are not sent yet are lost", {
      count: messages.length,
      error,
    });
  }
}

/** What an outbox begins with. */
export function takeUnsent(
  file: string,
  log: Log,
): { readonly unsent: readonly Message[]; readonly onSent: () => void } {
  const onSent = (): void => rmSync(file, { force: true });
  try {
    const text = readIfPresent(file);
    return { unsent: text === undefined ? [] : parseJson(UnsentSchema, text, file), onSent };
  } catch (error) {
    log.warn("outbox.unsent-unreadable", "messages an earlier version had not sent cannot be read", {
      error,
    });
    return { unsent: [], onSent };
  }
}
