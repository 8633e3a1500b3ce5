/** Parses the words after a command, by its declaration. */
import { parseArgs } from "node:util";
import { messageOf } from "@bureau/kit/errors";
import { nearest } from "@bureau/kit/nearest";
import {
  type AnyFlagValue,
  commonFlags,
  type Declaration,
  type Flag,
  type Flags,
  type Positionals,
  shownFlags,
  UsageError,
} from "./command.ts";
import { checkFlags } from "./flag-rules.ts";

type Parsed = {
  readonly args: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly flags: Readonly<Record<string, AnyFlagValue>>;
};

/** `typed` is the command as it was typed, for errors. @throws UsageError */
export function parseArguments(command: Declaration, typed: string, argv: readonly string[]): Parsed {
  const flags: Flags = { ...command.flags, ...commonFlags };
  const { values, positionals, given } = parseWords(command, flags, typed, argv);
  checkFlags(flags, given, values, typed);
  return {
    args: namedArguments(command.positionals ?? [], positionals, typed),
    flags: Object.fromEntries(
      Object.entries(flags).map(([name, flag]) => [name, flagValue(flag, values[name])]),
    ),
  };
}

function flagValue(flag: Flag, value: unknown): AnyFlagValue {
  if (flag.type === "boolean") return value === true;
  if (flag.multiple === true)
    return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
  return typeof value === "string" ? value : undefined;
}

function parseWords(command: Declaration, flags: Flags, typed: string, argv: readonly string[]) {
  const options = Object.fromEntries(
    Object.entries(flags).map(([name, { type, multiple = false, short }]) => [
      name,
      { type, multiple, ...(short === undefined ? {} : { short }) },
    ]),
  );
  try {
    const { values, positionals, tokens } = parseArgs({
      args: [...argv],
      options,
      allowPositionals: true,
      strict: true,
      tokens: true,
    });
    const given = tokens.flatMap((token) => (token.kind === "option" ? [token.name] : []));
    return { values: values as Readonly<Record<string, unknown>>, positionals, given };
  } catch (error) {
    throw flagError(
      error,
      typed,
      shownFlags(command).map(([name]) => name),
    );
  }
}

function namedArguments(wanted: Positionals, given: readonly string[], typed: string): Parsed["args"] {
  const missing = wanted.find((item, index) => item.optional !== true && given[index] === undefined);
  if (missing !== undefined)
    throw new UsageError(`"${typed}" needs <${missing.name}>: ${missing.summary}`, `${typed} --help`);
  if (given.length > wanted.length && wanted.at(-1)?.rest !== true)
    throw new UsageError(`"${typed}" does not take "${given[wanted.length]}"`, `${typed} --help`);
  return Object.fromEntries(
    wanted.map(({ name, rest }, index) => [name, rest === true ? given.slice(index) : given[index]]),
  );
}

function flagError(error: unknown, typed: string, known: readonly string[]): UsageError {
  const message = messageOf(error);
  const unknown = /Unknown option '(-+)([^']+)'/.exec(message);
  if (unknown === null) return new UsageError(`"${typed}": ${message.split("\n")[0]}`, `${typed} --help`);
  const guess = nearest(unknown[2] ?? "", known);
  return new UsageError(
    `"${typed}" has no flag ${unknown[1]}${unknown[2]}`,
    guess === undefined ? `${typed} --help` : `did you mean --${guess}?`,
  );
}
