/**
 * The globs of grants, allowances and visibility (wire facts, section 1.8).
 *
 * `*`, `?` and `[…]` never cross a `/`; `**` stands for any number of segments, at most once, at the start, the end
 * or between two slashes. A malformed pattern matches nothing: it must never grant. Patterns are
 * untrusted, so they are not compiled to regular expressions, which can take exponential time.
 */

/** True when the localpart, action or path `value` matches `pattern`. */
export function globMatches(pattern: string, value: string): boolean {
  if (pattern === "**") return value !== "";
  const stars = pattern.split("**").length - 1;
  if (stars === 0) return segmentsMatch(pattern, value);
  if (stars > 1) return false;
  if (pattern.endsWith("/**")) {
    const prefix = pattern.slice(0, -3);
    return segmentsMatch(prefix, value) || prefixesOf(value).some((head) => segmentsMatch(prefix, head));
  }
  if (pattern.startsWith("**/")) {
    const suffix = pattern.slice(3);
    return segmentsMatch(suffix, value) || suffixesOf(value).some((tail) => segmentsMatch(suffix, tail));
  }
  const middle = pattern.indexOf("/**/");
  if (middle < 0) return false;
  const prefix = pattern.slice(0, middle);
  const suffix = pattern.slice(middle + 4);
  const wanted = prefix.split("/").length + suffix.split("/").length;
  const segments = value.split("/");
  if (segments.length < wanted || segments.includes("")) return false;
  return (
    segmentsMatch(prefix, segments.slice(0, prefix.split("/").length).join("/")) &&
    segmentsMatch(suffix, segments.slice(-suffix.split("/").length).join("/"))
  );
}

/** `<localpart-glob>:<server-glob>`, split at the last colon, against `@localpart:server`. */
export function userPatternMatches(pattern: string, user: string): boolean {
  const split = pattern.lastIndexOf(":");
  const colon = user.indexOf(":");
  if (split < 0 || colon < 0 || !user.startsWith("@")) return false;
  const serverPattern = pattern.slice(split + 1);
  return (
    !serverPattern.includes("[") &&
    segmentsMatch(serverPattern, user.slice(colon + 1)) &&
    globMatches(pattern.slice(0, split), user.slice(1, colon))
  );
}

/** True when any pattern matches. No pattern matches nothing: default deny. */
export const anyGlobMatches = (patterns: readonly string[], value: string): boolean =>
  patterns.some((pattern) => globMatches(pattern, value));

function prefixesOf(value: string): string[] {
  const segments = value.split("/");
  if (segments.includes("")) return [];
  return segments.slice(1).map((_, index) => segments.slice(0, index + 1).join("/"));
}

function suffixesOf(value: string): string[] {
  const segments = value.split("/");
  if (segments.includes("")) return [];
  return segments.slice(1).map((_, index) => segments.slice(index + 1).join("/"));
}

/** One position of a pattern: any run of characters, any one, or one that `accepts`. */
type Token = "*" | "?" | ((char: string) => boolean);

const compiled = new Map<string, readonly Token[][] | null>();
/** Patterns come from untrusted room state, so the cache has a limit. */
const COMPILED_MAX = 4_096;

function segmentsMatch(pattern: string, value: string): boolean {
  let tokens = compiled.get(pattern);
  if (tokens === undefined) {
    tokens = compile(pattern);
    if (compiled.size >= COMPILED_MAX) compiled.clear();
    compiled.set(pattern, tokens);
  }
  if (tokens === null) return false;
  const segments = value.split("/");
  return (
    segments.length === tokens.length &&
    tokens.every((segment, index) => oneSegmentMatches(segment, [...(segments[index] ?? "")]))
  );
}

/** Backtracks to the last star only, so the time is at most the product of the two lengths. */
function oneSegmentMatches(tokens: readonly Token[], chars: readonly string[]): boolean {
  let token = 0;
  let char = 0;
  let star = -1;
  let starChar = 0;
  while (char < chars.length) {
    const wanted = tokens[token];
    if (wanted === "*") {
      star = token++;
      starChar = char;
    } else if (wanted !== undefined && (wanted === "?" || wanted(chars[char] ?? ""))) {
      token++;
      char++;
    } else if (star >= 0) {
      token = star + 1;
      char = ++starChar;
    } else return false;
  }
  while (tokens[token] === "*") token++;
  return token === tokens.length;
}

/** `path.Match` syntax to tokens, one list for each segment; null when malformed. */
function compile(pattern: string): Token[][] | null {
  const chars = [...pattern];
  let segment: Token[] = [];
  const segments = [segment];
  for (let at = 0; at < chars.length; ) {
    const char = chars[at++] ?? "";
    if (char === "*" || char === "?") segment.push(char);
    else if (char === "[") {
      const set = characterClass(chars, at);
      if (set === null) return null;
      segment.push(set.accepts);
      at = set.end;
    } else {
      const literal = char === "\\" ? chars[at++] : char;
      if (literal === undefined) return null;
      if (literal === "/") {
        segment = [];
        segments.push(segment);
      } else segment.push((value) => value === literal);
    }
  }
  return segments;
}

/** Reads `[^]lo-hi…]` from after its bracket, by Go's rules: never empty, `]` and `-` only escaped. */
function characterClass(
  chars: readonly string[],
  start: number,
): { accepts: (char: string) => boolean; end: number } | null {
  let at = start;
  const negated = chars[at] === "^";
  if (negated) at++;
  const bound = (): number | undefined => {
    const char = chars[at++];
    if (char === "-" || char === "]") return undefined;
    return (char === "\\" ? chars[at++] : char)?.codePointAt(0);
  };
  const ranges: [number, number][] = [];
  while (chars[at] !== "]" || ranges.length === 0) {
    const low = bound();
    let high = low;
    if (low !== undefined && chars[at] === "-") {
      at++;
      high = bound();
    }
    if (low === undefined || high === undefined) return null;
    ranges.push([low, high]);
  }
  const within = (code: number): boolean => ranges.some(([low, high]) => low <= code && code <= high);
  return { accepts: (char) => within(char.codePointAt(0) ?? -1) !== negated, end: at + 1 };
}
