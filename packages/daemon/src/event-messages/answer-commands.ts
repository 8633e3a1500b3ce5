/**
 * `m.bureau.command` in the config room (wire facts, section 4.1): this version implements none of its commands, and
 * tells the sender at once, so that the sender does not wait.
 */
import type { TimelineEvent } from "@bureau/matrix/event";
import { messages } from "@bureau/schema/events";
import * as v from "valibot";
import type { EventMessage } from "./event-message.ts";

const NAME_CHARS_MAX = 100;

const CommandSchema = v.object({
  msgtype: v.literal(messages.command),
  command: v.optional(v.string(), ""),
  request_id: v.optional(v.string()),
});

export function answerCommands(
  events: readonly TimelineEvent[],
  own: string,
  notify: (answer: EventMessage) => void,
): void {
  for (const event of events) {
    const answer = answerCommand(event, own);
    if (answer !== undefined) notify(answer);
  }
}

/** Pure. The answer to `event`, which names it as its thread; undefined when it is no command, or of `own`. */
function answerCommand(event: TimelineEvent, own: string): EventMessage | undefined {
  if (event.type !== "m.room.message" || event.sender === own || event.eventId === "") return undefined;
  const parsed = v.safeParse(CommandSchema, event.content);
  if (!parsed.success) return undefined;
  const { command, request_id: request } = parsed.output;
  const name = command.slice(0, NAME_CHARS_MAX);
  const error = `unknown command "${name}"`;
  return {
    msgtype: messages.commandResult,
    body: `${name}: error: ${error}`,
    status: "error",
    error,
    duration_ms: 0,
    ...(request === undefined ? {} : { request_id: request.slice(0, NAME_CHARS_MAX) }),
    "m.relates_to": {
      rel_type: "m.thread",
      event_id: event.eventId,
      is_falling_back: true,
      "m.in_reply_to": { event_id: event.eventId },
    },
  };
}
