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
    const parsed = parseArguments(command, path.join(" "), rest);
    const loaded = await command.load();
    return (await loaded.run({ ...parsed, terminal, env, root })) ?? exit.ok;
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
