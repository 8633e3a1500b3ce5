/**
 * The globs of grants, allowances and visibility (wire facts, section 1.8).
 *
 * `*`, `?` and `[…]` never cross a `/`; `**` stands for any number of segments, at most once, at the start, the end
 * or between two slashes. A malformed pattern matches nothing: it must never grant. Patterns are
 * untrusted, so they are not compiled to regular expressions, which can take exponential time.
 */

/** Whether a value matches the pattern that the matcher was made of. */
export type Matcher = (value: string) => boolean;

/** True when the localpart, action or path `value` matches `pattern`. */
export const globMatches = (pattern: string, value: string): boolean => globMatcher(pattern)(value);

const never: Matcher = () => false;
/** Whether the pattern stands for itself alone. */
export const isLiteral = (pattern: string): boolean => !/[*?[\\]/u.test(pattern);

/** Patterns come from untrusted room state, so the caches have a limit. */
const MATCHERS_MAX = 4_096;
const globs = new Map<string, Matcher>();
const userPatterns = new Map<string, Matcher>();
const userLists = new Map<string, Matcher>();

function kept(cache: Map<string, Matcher>, pattern: string, make: (pattern: string) => Matcher): Matcher {
  const known = cache.get(pattern);
  if (known !== undefined) return known;
  if (cache.size >= MATCHERS_MAX) cache.clear();
  const matcher = make(pattern);
  cache.set(pattern, matcher);
  return matcher;
}

/** The same as {@link globMatches} for many values: the pattern is read once. */
export const globMatcher = (pattern: string): Matcher => kept(globs, pattern, makeGlob);

/** `<localpart-glob>:<server-glob>`, split at the last colon, against `@localpart:server`. */
export const userPatternMatcher = (pattern: string): Matcher => kept(userPatterns, pattern, makeUserPattern);

/**
 * Whether any pattern of the list matches; none of an empty one does. Rules that name the same users have one matcher:
 * the principals of a template do, and a check of thousands of them stays in the processor's cache.
 */
export function anyUserMatcher(patterns: readonly string[] = []): Matcher {
  const [first, ...others] = patterns;
  if (first === undefined) return never;
  if (others.length === 0) return userPatternMatcher(first);
  return kept(userLists, JSON.stringify(patterns), () => {
    const matchers = patterns.map(userPatternMatcher);
    return (user) => {
      for (const matches of matchers) if (matches(user)) return true;
      return false;
    };
  });
}

function makeGlob(pattern: string): Matcher {
  if (pattern === "**") return (value) => value !== "";
  const stars = pattern.split("**").length - 1;
  if (stars === 0) return segmentsMatcher(pattern);
  if (stars > 1) return never;
  if (pattern.endsWith("/**")) {
    const prefix = pattern.slice(0, -3);
    if (isLiteral(prefix)) return below(prefix);
    const matches = segmentsMatcher(prefix);
    return (value) => matches(value) || prefixesOf(value).some(matches);
  }
  if (pattern.startsWith("**/")) {
    const matches = segmentsMatcher(pattern.slice(3));
    return (value) => matches(value) || suffixesOf(value).some(matches);
  }
  const middle = pattern.indexOf("/**/");
  return middle < 0 ? never : between(pattern.slice(0, middle), pattern.slice(middle + 4));
}

/** `prefix/**` of a prefix without special characters, the most frequent pattern. */
function below(prefix: string): Matcher {
  const start = `${prefix}/`;
  return (value) => value === prefix || (value.startsWith(start) && !hasEmptySegment(value));
}

const hasEmptySegment = (value: string): boolean =>
  value.startsWith("/") || value.endsWith("/") || value.includes("//");

function between(prefix: string, suffix: string): Matcher {
  const head = prefix.split("/").length;
  const tail = suffix.split("/").length;
  const startMatches = segmentsMatcher(prefix);
  const endMatches = segmentsMatcher(suffix);
  return (value) => {
    const segments = value.split("/");
    return (
      segments.length >= head + tail &&
      !segments.includes("") &&
      startMatches(segments.slice(0, head).join("/")) &&
      endMatches(segments.slice(-tail).join("/"))
    );
  };
}

function makeUserPattern(pattern: string): Matcher {
  const split = pattern.lastIndexOf(":");
  if (split < 0) return never;
  const serverPattern = pattern.slice(split + 1);
  if (serverPattern.includes("[")) return never;
  const localpartPattern = pattern.slice(0, split);
  if (isLiteral(pattern) && !localpartPattern.includes(":")) {
    const user = `@${pattern}`;
    return (value) => value === user;
  }
  const prefix = localpartPattern.slice(0, -3);
  if (localpartPattern.endsWith("/**") && isLiteral(prefix) && isLiteral(serverPattern))
    return usersBelow(prefix, serverPattern);
  const serverMatches = segmentsMatcher(serverPattern);
  const localpartMatches = globMatcher(localpartPattern);
  return (user) => {
    const colon = user.indexOf(":");
    return (
      colon > 0 &&
      user.startsWith("@") &&
      serverMatches(user.slice(colon + 1)) &&
      localpartMatches(user.slice(1, colon))
    );
  };
}

/** `prefix/**:server`, the most frequent pattern: {@link below} without copies of the parts. */
function usersBelow(prefix: string, server: string): Matcher {
  const exact = `@${prefix}:${server}`;
  const start = `@${prefix}/`;
  const end = `:${server}`;
  return (user) => {
    if (!user.startsWith(start)) return user === exact && !prefix.includes(":");
    const colon = user.indexOf(":");
    if (colon !== user.length - end.length || !user.endsWith(end) || user[colon - 1] === "/") return false;
    const empty = user.indexOf("//");
    return user[1] !== "/" && (empty < 0 || empty > colon);
  };
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

/** Patterns without `**`. */
function segmentsMatcher(pattern: string): Matcher {
  if (isLiteral(pattern)) return (value) => value === pattern;
  if (pattern === "*") return (value) => !value.includes("/");
  const tokens = compile(pattern);
  if (tokens === null) return never;
  return (value) => {
    const segments = value.split("/");
    return (
      segments.length === tokens.length &&
      tokens.every((segment, index) => oneSegmentMatches(segment, [...(segments[index] ?? "")]))
    );
  };
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
