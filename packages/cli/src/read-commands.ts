/** Finds out, without any command, whether the small program of commands that only read can run what was typed. */
import { findCommand } from "./command/find-command.ts";
import { helpPages } from "./help-pages.ts";
import { readCommands } from "./read-command-names.ts";

export function isReadCommand(argv: readonly string[]): boolean {
  const found = findCommand(helpPages, argv, ({ pages }) => pages);
  const [, ...words] = found.path;
  return found.kind === "command" && readCommands.some((name) => name === words.join(" "));
}
