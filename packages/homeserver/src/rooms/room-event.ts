/** An event as the server holds it, and the JSON it is made of. */

export type Json = null | boolean | number | string | Json[] | JsonObject;
export type JsonObject = { [key: string]: Json };

export type Membership = "invite" | "join" | "knock" | "leave" | "ban";

export type RoomEvent = {
  /** Position in the one stream: also the order of events in a room, since nothing federates. */
  readonly stream: number;
  readonly eventId: string;
  readonly roomId: string;
  readonly type: string;
  /** null for a message event. */
  readonly stateKey: string | null;
  readonly sender: string;
  readonly content: JsonObject;
  /** Milliseconds since the epoch. */
  readonly originServerTs: number;
  /** Stream of the state event that this one replaced. */
  readonly replaces: number | null;
  /** For m.room.redaction: the event it redacts. */
  readonly redacts: string | null;
  /** ID of the redaction that emptied this event. */
  readonly redactedBy: string | null;
  readonly txnDevice: string | null;
  readonly txnId: string | null;
};

/** The fields of a new event that the caller gives; the server adds the rest. */
export type EventDraft = {
  readonly roomId: string;
  readonly type: string;
  readonly sender: string;
  readonly content: JsonObject;
  readonly stateKey?: string;
  readonly redacts?: string;
  /** The client's transaction, for idempotency and `unsigned.transaction_id`. */
  readonly transaction?: { readonly deviceId: string; readonly txnId: string };
};

export const isJsonObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A string field of untrusted content, or undefined when it is missing or of another type. */
export function stringField(content: JsonObject, key: string): string | undefined {
  const value = Object.hasOwn(content, key) ? content[key] : undefined;
  return typeof value === "string" ? value : undefined;
}

/** An object field of untrusted content, or undefined. */
export function objectField(content: JsonObject, key: string): JsonObject | undefined {
  const value = Object.hasOwn(content, key) ? content[key] : undefined;
  return isJsonObject(value) ? value : undefined;
}

/** `membership` of an m.room.member content; "leave" when it has no valid value. */
export function membershipOf(content: JsonObject | undefined): Membership {
  const value = content === undefined ? undefined : content["membership"];
  return value === "invite" || value === "join" || value === "knock" || value === "ban" ? value : "leave";
}
