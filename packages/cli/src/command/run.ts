/**
 * Finds the command that was typed, parses its flags, runs it. Exit codes: 0 success, 1 failure, 2 usage error
 * (docs/operations.md has the table).
 */
import { isBureauError, messageOf } from "@bureau/kit/errors";
import { unlessOfFile } from "@bureau/kit/file-error";
import { nearest } from "@bureau/kit/nearest";
import { InputError } from "@bureau/schema/parse";
import { RefError } from "@bureau/schema/refs";
import { type Command, type CommandGroup, type Env, isGroup, UsageError } from "./command.ts";
import { findCommand, flagsOf } from "./find-command.ts";
import { commandHelp, groupHelp } from "./help.ts";
import { parseArguments } from "./parse-arguments.ts";
import { sayNext } from "./say-next.ts";
import type { Terminal } from "./terminal.ts";
import { asTyped } from "./typed-command.ts";

const exit = { ok: 0, failed: 1, usage: 2 } as const;

/** Runs `argv` (without the program's name) and returns the exit code. Prints errors itself. */
export async function runCommand(
  root: CommandGroup,
  argv: readonly string[],
  terminal: Terminal,
  env: Env,
): Promise<number> {
  const wantsJson = flagsOf(argv).includes("--json");
  try {
    const found = findCommand<Command | CommandGroup>(root, argv, commandsOf);
    const { node, path } = found;
    if (found.kind === "unknown") throw unknownCommand(found.word, commandsOf(node) ?? [], path);
    if (found.kind === "help" || isGroup(node)) {
      terminal.print(asTyped(isGroup(node) ? groupHelp(path, node) : commandHelp(path, node)));
      return exit.ok;
    }
    const parsed = parseArguments(node, path.join(" "), found.rest);
    const loaded = await node.load();
    return (await loaded.run({ ...parsed, terminal, env, root })) ?? exit.ok;
  } catch (error) {
    return report(error, terminal, wantsJson);
  }
}

const commandsOf = (node: Command | CommandGroup): CommandGroup["commands"] | undefined =>
  isGroup(node) ? node.commands : undefined;

function unknownCommand(
  word: string,
  commands: CommandGroup["commands"],
  path: readonly string[],
): UsageError {
  const guess = nearest(
    word,
    commands.map((node) => node.name),
  );
  const typed = path.join(" ");
  return new UsageError(
    `"${word}" is not a command of "${typed}"`,
    guess === undefined ? `${typed} --help` : `did you mean "${typed} ${guess}"?`,
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
