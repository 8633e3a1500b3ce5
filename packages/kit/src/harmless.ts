/**
 * Escapes untrusted text for a terminal: characters that control a terminal or reverse the reading order appear as
 * `\x1b`, `\u{202e}`. So the author of a message, a name or a log line cannot overwrite other output, set the window title,
 * or fill the clipboard.
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
