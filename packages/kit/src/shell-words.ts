/**
 * Words for a shell that is not known: sshd hands a command line to the login shell of the user who logs in, and that may be
 * any POSIX shell or fish. Both read everything in single quotes as it stands, but fish not a backslash; in double
 * quotes both read `'` and `\\` alike. So those two are quoted doubly, all the rest singly.
 */
import { BureauError } from "./errors.ts";

const plain = /^[A-Za-z0-9_@%+:,./-][A-Za-z0-9_@%+:,./=-]*$/u;

/** One word, not the first of a line. @throws BureauError `invalid-input` for a NUL, which no argument can hold */
export function shellWord(word: string): string {
  if (word.includes("\0"))
    throw new BureauError("invalid-input", `"${word.replaceAll("\0", "␀")}" holds a NUL character`);
  if (plain.test(word)) return word;
  return word === "" ? "''" : quoted(word);
}

const quoted = (word: string): string =>
  (word.match(/['\\]|[^'\\]+/gu) ?? [])
    .map((part) => (part === "'" ? `"'"` : part === "\\" ? `"\\\\"` : `'${part}'`))
    .join("");

/** A command line that runs exactly `argv`. Unquoted, a program with `=` in its name would be an assignment. */
export const shellLine = (argv: readonly string[]): string =>
  argv.map((word, at) => (at === 0 && word.includes("=") ? quoted(word) : shellWord(word))).join(" ");
