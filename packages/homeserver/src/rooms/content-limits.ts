/** Limits of an event's content: canonical JSON's integers and strings, and the sizes of the Matrix specification. */
import { badJson, invalidParam, tooLarge } from "../http/matrix-error.ts";
import type { EventDraft, Json, JsonObject } from "./room-event.ts";

/** Bytes of a whole event in canonical JSON (Client-Server API, "Size limits"). */
export const EVENT_BYTES_MAX = 65_536;
/** Bytes of a type, a state key, a user ID or a room ID (same section). */
const EVENT_FIELD_BYTES_MAX = 255;
/**
 * Bytes that a federating server adds to a client's event beside the fields we have: hashes, a signature, depth,
 * previous and authorizing events. Reserved, so that a content accepted here is accepted anywhere.
 */
const ENVELOPE_BYTES = 512;

/** Checks a draft and returns its content as the JSON to store. Errors: M_BAD_JSON, M_INVALID_PARAM, M_TOO_LARGE. */
export function checkDraft(draft: EventDraft): string {
  checkField("event type", draft.type);
  if (draft.type === "") throw invalidParam("The event type is empty");
  if (draft.stateKey !== undefined) checkField("state key", draft.stateKey);
  checkCanonical(draft.content, "content");
  const json = JSON.stringify(draft.content);
  const others =
    draft.type.length + (draft.stateKey ?? "").length + draft.sender.length + draft.roomId.length;
  const bytes = Buffer.byteLength(json) + others + ENVELOPE_BYTES;
  if (bytes > EVENT_BYTES_MAX) {
    throw tooLarge(`The event would have ${bytes} bytes, more than ${EVENT_BYTES_MAX}`);
  }
  return json;
}

function checkField(what: string, value: string): void {
  if (Buffer.byteLength(value) > EVENT_FIELD_BYTES_MAX) {
    throw tooLarge(`The ${what} is longer than ${EVENT_FIELD_BYTES_MAX} bytes`);
  }
  if (value.includes("\0") || !value.isWellFormed())
    throw invalidParam(`The ${what} holds an invalid character`);
}

/** Refuses what canonical JSON cannot hold: fractions, numbers beyond 2^53 - 1, broken surrogate pairs. */
function checkCanonical(value: Json, where: string): void {
  if (typeof value === "number") {
    if (!Number.isSafeInteger(value))
      throw badJson(`${where} holds ${value}: only integers within ±(2^53 - 1) are allowed`);
  } else if (typeof value === "string") {
    if (!value.isWellFormed()) throw badJson(`${where} holds a string that is not valid Unicode`);
  } else if (Array.isArray(value)) {
    for (const inner of value) checkCanonical(inner, where);
  } else if (value !== null && typeof value === "object") {
    for (const [key, inner] of Object.entries(value as JsonObject)) {
      checkCanonical(key, where);
      checkCanonical(inner, where);
    }
  }
}
