/**
 * The path and query of a request. Refuses every spelling that two programs could parse differently.
 *
 * A policy protects only when the upstream parses the path as the policy did. So each segment of a path must decode, in
 * one step, to text that is not another path; otherwise the proxy answers 400. It forwards the checked path byte for
 * byte. `%2F` inside a segment is allowed, because room aliases and state keys of Bureau contain slashes. The runtime
 * resolves `.` and `..` before the check.
 */
import { BureauError } from "@bureau/kit/errors";

export type Target = {
  /** Starts with a slash; as it arrived. */
  readonly path: string;
  /** Without its question mark; empty when there is none. */
  readonly query: string;
};

/** The longest path and query; homeservers accept far less. */
const TARGET_LENGTH_MAX = 64 * 1024;

/** @throws BureauError `invalid-input` */
export function targetOf(request: Request): Target {
  const { url } = request;
  const start = url.startsWith("http://") ? url.indexOf("/", 7) : -1;
  if (start < 0) throw ambiguous("the request target or the Host header is malformed");
  if (url.length - start > TARGET_LENGTH_MAX) throw ambiguous("it is too long");
  const question = url.indexOf("?", start);
  return question < 0
    ? { path: url.slice(start), query: "" }
    : { path: url.slice(start, question), query: url.slice(question + 1) };
}

/** RFC 3986's characters of a path segment. A correct client encodes all others. */
const plainPath = /^\/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*$/u;
/** An encoded unreserved character: no client needs it, and servers treat it differently. */
const needlessEncoding = /%(?:3[0-9]|[46][1-9a-f]|[57][0-9a]|2d|2e|5f|7e)/iu;

/**
 * The decoded segments of `path`. Only the last may be empty (a trailing slash: an empty state key).
 * @throws BureauError `invalid-input` for every ambiguous spelling
 */
export function segmentsOf(path: string): string[] {
  if (!plainPath.test(path)) throw ambiguous("it has a character that must be encoded");
  if (needlessEncoding.test(path)) throw ambiguous("it encodes a character that needs no encoding");
  const raw = path.slice(1).split("/");
  return raw.map((segment, index) => {
    if (segment === "" && index < raw.length - 1) throw ambiguous("it has an empty segment");
    return segment.includes("%") ? decodeSegment(segment) : plainSegment(segment);
  });
}

function plainSegment(segment: string): string {
  if (segment === "." || segment === "..") throw ambiguous("it has a dot segment");
  return segment;
}

function decodeSegment(segment: string): string {
  let text: string;
  try {
    text = decodeURIComponent(segment);
  } catch {
    throw ambiguous("its percent-encoding is broken");
  }
  if (/%[0-9a-f]{2}/iu.test(text)) throw ambiguous("it is encoded twice");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused here
  if (/[\u0000-\u001f\u007f\\]/u.test(text)) throw ambiguous("it has a control character or a backslash");
  for (const part of text.split("/")) plainSegment(part);
  return text;
}

/**
 * `query` without the parameters named in `drop`, in any encoding; the rest is unchanged.
 * @throws BureauError `invalid-input`
 */
export function queryWithout(query: string, drop: ReadonlySet<string>): string {
  if (query === "") return "";
  if (query.includes("#")) throw ambiguous("it has a fragment");
  return query
    .split("&")
    .filter((pair) => !pair.split(";").some((part) => drop.has(nameOf(part))))
    .join("&");
}

function nameOf(pair: string): string {
  const equals = pair.indexOf("=");
  const name = equals < 0 ? pair : pair.slice(0, equals);
  try {
    return decodeURIComponent(name.replaceAll("+", " ")).trim().toLowerCase();
  } catch {
    throw ambiguous("the percent-encoding of its query is broken");
  }
}

const ambiguous = (reason: string): BureauError =>
  new BureauError("invalid-input", `Refused an ambiguous path: ${reason}`);
