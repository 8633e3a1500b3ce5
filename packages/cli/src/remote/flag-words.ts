/** Parsed flags as words again: to repeat a command, here or on another machine. */
import type { Invocation } from "../command/command.ts";

/** `--name`, or `--name=value` for each value; those named in `without` are left out. */
export function flagWords(flags: Invocation["flags"], without: readonly string[] = []): string[] {
  return Object.entries(flags).flatMap(([name, given]) => {
    if (without.includes(name) || given === undefined) return [];
    const values = typeof given === "object" ? given : [given];
    return values.flatMap((value) =>
      value === false ? [] : [value === true ? `--${name}` : `--${name}=${value}`],
    );
  });
}
