/** Parsed flags as words again: to repeat a command, here or on another machine. */
import type { AnyFlagValue } from "../command/command.ts";

/** `--name`, or `--name=value` for each value; the flags named in `without` are left out. */
export function flagWords(
  flags: Readonly<Record<string, AnyFlagValue>>,
  without: readonly string[] = [],
): string[] {
  return Object.entries(flags).flatMap(([name, given]) => {
    if (without.includes(name) || given === undefined || given === false) return [];
    if (given === true) return [`--${name}`];
    return [given].flat().map((value) => `--${name}=${value}`);
  });
}
