/** Events as they arrive: loosely parsed here, their content by its own schema where it is used. */
import { jsonObject } from "@bureau/schema/parse";
import * as v from "valibot";

const StateEventSchema = v.pipe(
  v.object({
    type: v.string(),
    state_key: v.string(),
    sender: v.optional(v.string(), ""),
    content: jsonObject,
    event_id: v.optional(v.string(), ""),
    origin_server_ts: v.optional(v.number(), 0),
  }),
  v.transform((event) => ({
    type: event.type,
    stateKey: event.state_key,
    sender: event.sender,
    content: event.content,
    eventId: event.event_id,
    /** When the homeserver took it, in milliseconds since the epoch; 0 when it did not say. */
    sentAt: event.origin_server_ts,
  })),
);

/** One state event: `content` is as its sender wrote it, not parsed. */
export type StateEvent = v.InferOutput<typeof StateEventSchema>;

/** Undefined when it is no whole event: a homeserver answered with its content alone. */
export function parseStateEvent(value: unknown): StateEvent | undefined {
  const [event] = parseStateEvents([value]);
  return event === undefined || event.sender === "" ? undefined : event;
}

/** The state events among `values`, in order; timeline events and what is malformed are left out. */
export function parseStateEvents(values: readonly unknown[]): StateEvent[] {
  return values.flatMap((value) => {
    const parsed = v.safeParse(StateEventSchema, value);
    return parsed.success ? [parsed.output] : [];
  });
}

const TimelineEventSchema = v.pipe(
  v.object({
    type: v.string(),
    sender: v.optional(v.string(), ""),
    content: jsonObject,
    event_id: v.optional(v.string(), ""),
    state_key: v.optional(v.string()),
    origin_server_ts: v.optional(v.number(), 0),
    redacts: v.optional(v.string()),
  }),
  v.transform((event) => ({
    type: event.type,
    sender: event.sender,
    content: event.content,
    eventId: event.event_id,
    stateKey: event.state_key,
    sentAt: event.origin_server_ts,
    /** The event whose content was taken away: in the content since room version 11, beside it before. */
    redacts:
      event.redacts ?? (typeof event.content["redacts"] === "string" ? event.content["redacts"] : undefined),
  })),
);
/** Any event of a timeline; one with a `stateKey` changed the room's state. */
export type TimelineEvent = v.InferOutput<typeof TimelineEventSchema>;

/** The events among `values`, in order; what is malformed is left out. */
export function parseTimelineEvents(values: readonly unknown[]): TimelineEvent[] {
  return values.flatMap((value) => {
    const parsed = v.safeParse(TimelineEventSchema, value);
    return parsed.success ? [parsed.output] : [];
  });
}
