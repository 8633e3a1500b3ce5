/**
 * Finds the command that was typed, parses its flags, runs it. Exit codes: 0 done, 1 it failed, 2 it was typed wrong
 * (docs/operations.md has the table).
 */

import { parseArgs } from "node:util";
import { isBureauError, messageOf } from "@bureau/kit/errors";
import { unlessOfFile } from "@bureau/kit/file-error";
import { nearest } from "@bureau/kit/nearest";
import { InputError } from "@bureau/schema/parse";
import { RefError } from "@bureau/schema/refs";
import { type Command, type CommandGroup, commonFlags, type Flag, isGroup, UsageError } from "./command.ts";
import { checkFlags } from "./flag-rules.ts";
import { commandHelp, groupHelp } from "./help.ts";
import { sayNext } from "./say-next.ts";
import type { Terminal } from "./terminal.ts";
import { asTyped } from "./typed-command.ts";

const exit = { ok: 0, failed: 1, usage: 2 } as const;

/** Runs `argv` (without the program's name) and returns the exit code. Prints errors itself. */
export async function runCommand(
  root: CommandGroup,
  argv: readonly string[],
  terminal: Terminal,
  env: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const wantsJson = flagsOf(argv).includes("--json");
  try {
    const found = find(root, argv);
    if ("help" in found) {
      terminal.print(asTyped(found.help));
      return exit.ok;
    }
    const { command, path, rest } = found;
    if (flagsOf(rest).some((word) => word === "--help" || word === "-h")) {
      terminal.print(asTyped(commandHelp(path, command)));
      return exit.ok;
    }
    const { args, flags } = parseFlags(command, path, rest);
    const { run } = await command.load();
    return (await run({ args, flags, terminal, env })) ?? exit.ok;
  } catch (error) {
    return report(error, terminal, wantsJson);
  }
}

/** Arguments after "--" are text, even when they look like flags. */
function flagsOf(argv: readonly string[]): readonly string[] {
  const end = argv.indexOf("--");
  return end < 0 ? argv : argv.slice(0, end);
}

type Found =
  | { readonly help: string }
  | { readonly command: Command; readonly path: readonly string[]; readonly rest: readonly string[] };

function find(root: CommandGroup, argv: readonly string[], above: readonly string[] = [root.name]): Found {
  let group = root;
  const path = [...above];
  for (let index = 0; ; index++) {
    const word = argv[index];
    if (word === undefined || word === "--help" || word === "-h") return { help: groupHelp(path, group) };
    // `bureau help agent create` is `bureau agent create --help`.
    if (word === "help") return find(group, [...argv.slice(index + 1), "--help"], path);
    const next = group.commands.find((node) => node.name === word);
    if (next === undefined) throw unknownCommand(word, group, path);
    path.push(next.name);
    if (!isGroup(next)) return { command: next, path, rest: argv.slice(index + 1) };
    group = next;
  }
}

function unknownCommand(word: string, group: CommandGroup, path: readonly string[]): UsageError {
  const guess = nearest(
    word,
    group.commands.map((node) => node.name),
  );
  const typed = path.join(" ");
  return new UsageError(
    `"${word}" is not a command of "${typed}"`,
    guess === undefined ? `${typed} --help` : `did you mean "${typed} ${guess}"?`,
  );
}

function parseFlags(command: Command, path: readonly string[], argv: readonly string[]) {
  const flags: Record<string, Flag> = { ...command.flags, ...commonFlags };
  const options = Object.fromEntries(
    Object.entries(flags).map(([name, flag]) => [
      name,
      {
        type: flag.type,
        multiple: flag.multiple === true,
        ...(flag.short === undefined ? {} : { short: flag.short }),
      },
    ]),
  );
  const typed = path.join(" ");
  let parsed: { values: Record<string, unknown>; positionals: string[] };
  let given: string[];
  try {
    const { values, positionals, tokens } = parseArgs({
      ...{ args: [...argv], options, allowPositionals: true, strict: true, tokens: true },
    });
    parsed = { values, positionals };
    given = tokens.flatMap((token) => (token.kind === "option" ? [token.name] : []));
  } catch (error) {
    throw flagError(error, typed, Object.keys(flags));
  }
  checkFlags(flags, given, parsed.values, typed);
  const wanted = command.positionals ?? [];
  const least = wanted.filter((item) => item.optional !== true).length;
  const most = wanted.some((item) => item.rest === true) ? Number.POSITIVE_INFINITY : wanted.length;
  const missing = wanted[parsed.positionals.length];
  if (parsed.positionals.length < least)
    throw new UsageError(`"${typed}" needs <${missing?.name}>: ${missing?.summary}`, `${typed} --help`);
  if (parsed.positionals.length > most)
    throw new UsageError(
      `"${typed}" does not take "${parsed.positionals[wanted.length]}"`,
      `${typed} --help`,
    );
  return { args: parsed.positionals, flags: parsed.values as Record<string, string | boolean | undefined> };
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

/** Prints what went wrong: a sentence and, under it, what to do. With --json also as JSON on stdout. */
function report(thrown: unknown, terminal: Terminal, json: boolean): number {
  const error = unlessOfFile(thrown);
  const hint = isBureauError(error) || error instanceof InputError ? asTyped(error.hint) : "";
  const code = isBureauError(error)
    ? error.code
    : error instanceof InputError || error instanceof RefError
      ? "invalid-input"
      : "bug";
  if (json) terminal.json({ ok: false, error: messageOf(error), code, ...(hint === "" ? {} : { hint }) });
  terminal.say(`${terminal.style.red("error:")} ${messageOf(error)}`);
  if (hint !== "") sayNext(terminal, hint);
  if (code === "bug" && error instanceof Error && error.stack !== undefined)
    terminal.say(terminal.style.dim(error.stack));
  return error instanceof UsageError ? exit.usage : exit.failed;
}
