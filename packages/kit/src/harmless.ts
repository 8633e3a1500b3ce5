/**
 * Text of others, for a terminal. What steers a terminal or turns its reading order around is shown as what it is:
 * `\x1b`, `\u{202e}`. So nobody who may write a message, a name or a log line writes over what a person reads, names
 * their window, or fills their clipboard.
 */

/** Controls of both sets, signs that reverse the reading order, and the line ends that only some programs see. */
const steering = /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu;

const hexOf = (character: string): string => (character.codePointAt(0) ?? 0).toString(16);

const shown = (character: string): string =>
  (character.codePointAt(0) ?? 0) > 0xff
    ? `\\u{${hexOf(character)}}`
    : `\\x${hexOf(character).padStart(2, "0")}`;

/** Keeps line ends and tabs: for text of several lines. */
export const harmless = (text: string): string =>
  text.replace(steering, (character) =>
    character === "\n" || character === "\t" ? character : shown(character),
  );

/** For a place in a line: line ends are shown too. */
export const harmlessLine = (text: string): string => text.replace(steering, shown);

/** JSON with the same meaning. Characters that `JSON.stringify` leaves unescaped occur only in its strings. */
export const harmlessJson = (json: string): string =>
  json.replace(steering, (character) =>
    character === "\n" ? character : `\\u${hexOf(character).padStart(4, "0")}`,
  );
