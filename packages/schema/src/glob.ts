/**
 * The globs of grants, allowances and visibility (wire facts, section 1.8).
 *
 * `*`, `?` and `[…]` never cross a `/`; `**` stands for any number of segments, at most once, at the start, the end
 * or between two slashes. What is malformed matches nothing: a broken pattern must never grant.
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

/** True when any pattern matches. No patterns, no match: default deny. */
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

const compiled = new Map<string, RegExp | null>();
/** Patterns come from room state that others write, so the cache has a bound. */
const COMPILED_MAX = 4_096;

function segmentsMatch(pattern: string, value: string): boolean {
  let regex = compiled.get(pattern);
  if (regex === undefined) {
    regex = compile(pattern);
    if (compiled.size >= COMPILED_MAX) compiled.clear();
    compiled.set(pattern, regex);
  }
  return regex?.test(value) ?? false;
}

/** `path.Match` syntax to a regular expression without nested repetition; null when malformed. */
function compile(pattern: string): RegExp | null {
  let source = "";
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern.charAt(i);
    if (char === "*") source += source.endsWith("[^/]*") ? "" : "[^/]*";
    else if (char === "?") source += "[^/]";
    else if (char === "[") {
      const end = pattern.indexOf("]", i + 2);
      if (end < 0) return null;
      const body = pattern.slice(i + 1, end);
      const negated = body.startsWith("^");
      const set = (negated ? body.slice(1) : body).replace(/[\\\]^]/gu, "\\$&");
      if (set === "") return null;
      source += `(?!/)[${negated ? "^" : ""}${set}]`;
      i = end;
    } else if (char === "\\") {
      i++;
      if (i >= pattern.length) return null;
      source += escapeRegex(pattern.charAt(i));
    } else source += escapeRegex(char);
  }
  try {
    return new RegExp(`^${source}$`, "u");
  } catch {
    return null;
  }
}

const escapeRegex = (text: string): string => text.replace(/[.*+?^${}()|[\]\\/]/gu, "\\$&");
