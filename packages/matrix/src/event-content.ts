/**
 * What a homeserver would refuse of an event, found before it is sent: Matrix's canonical JSON has whole numbers only,
 * and an event has a size. The homeserver's own words name neither the place nor what to do.
 */
import { BureauError } from "@bureau/kit/errors";

/** Bytes of a whole event (Client-Server API, "Size limits"). */
const EVENT_BYTES_MAX = 65_536;
/** What a homeserver adds to a content: sender, room, hashes, a signature, previous and authorizing events. */
const ENVELOPE_BYTES = 512;

/** Bytes of an event's type and of a state key (same section). */
const FIELD_BYTES_MAX = 255;

/** @throws BureauError */
export function checkEvent(type: string, stateKey: string | undefined, content: unknown): void {
  const what = stateKey === undefined || stateKey === "" ? type : `${type} "${shortened(stateKey)}"`;
  for (const [name, value] of Object.entries({ type, "state key": stateKey ?? "" })) {
    const bytes = bytesOf(value);
    if (bytes > FIELD_BYTES_MAX || value.includes("\0"))
      throw new BureauError(
        "invalid-input",
        `Cannot write ${shortened(what)}: its ${name} has ${bytes} bytes, at most ${FIELD_BYTES_MAX} and no NUL may be in it`,
      );
  }
  if (type === "") throw new BureauError("invalid-input", "Cannot write an event without a type");
  checkContent(content, what);
}

const shortened = (text: string): string => (text.length > 80 ? `${text.slice(0, 80)}…` : text);

/** @throws BureauError `invalid-input` that names the value, `too-large` with the size */
export function checkContent(content: unknown, what: string): void {
  if (typeof content !== "object" || content === null || Array.isArray(content))
    throw new BureauError("invalid-input", `Cannot write ${what}: it is not a JSON object`);
  const fault = canonicalFault(content, []);
  if (fault !== undefined)
    throw new BureauError("invalid-input", `Cannot write ${what}: ${fault}`, {
      hint: 'a Matrix event holds whole numbers within ±(2^53 - 1): write another number as text, such as "0.5"',
    });
  const bytes = jsonBytes(content) + bytesOf(what) + ENVELOPE_BYTES;
  if (bytes > EVENT_BYTES_MAX)
    throw new BureauError(
      "too-large",
      `Cannot write ${what}: it would have ${bytes} bytes, and a Matrix event holds ${EVENT_BYTES_MAX}`,
      { hint: "make it smaller, or put the bulk in a file and give its path" },
    );
}

/** The first value that canonical JSON cannot hold, with its place: `payload.temperature is 0.5`. */
function canonicalFault(value: unknown, path: readonly string[]): string | undefined {
  const here = path.length === 0 ? "it" : `"${path.join(".")}"`;
  if (typeof value === "number" && !Number.isSafeInteger(value)) return `${here} is ${value}`;
  if (typeof value === "string" && !value.isWellFormed()) return `${here} is not valid Unicode`;
  if (typeof value !== "object" || value === null) return undefined;
  for (const [key, inner] of Object.entries(value)) {
    const fault = canonicalFault(inner, [...path, key]);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/** Bytes of a value as JSON in UTF-8; 0 for what JSON cannot hold. */
export const jsonBytes = (value: unknown): number => bytesOf(JSON.stringify(value) ?? "");

const bytesOf = (text: string): number => new TextEncoder().encode(text).length;
