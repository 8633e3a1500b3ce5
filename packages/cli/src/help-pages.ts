/**
 * The help page of every group and command. Here, from sources, they are made from the declarations of all commands. A
 * build replaces this module with the texts (scripts/command-declarations.ts), so that help loads no declaration.
 */
import { systemHost } from "@bureau/os/layout";
import { root } from "./all-commands.ts";
import { type Command, type CommandGroup, isGroup } from "./command/command.ts";
import { commandHelp, groupHelp } from "./command/help.ts";

export type HelpPage = {
  readonly name: string;
  readonly text: string;
  /** Undefined for a command. */
  readonly pages?: readonly HelpPage[];
};

function pageOf(node: Command | CommandGroup, above: readonly string[] = []): HelpPage {
  const path = [...above, node.name];
  const { name } = node;
  if (!isGroup(node)) return { name, text: commandHelp(path, node) };
  return { name, text: groupHelp(path, node), pages: node.commands.map((child) => pageOf(child, path)) };
}

export const helpPages: HelpPage = pageOf(root);

/** Where a system installation has `bureau`. */
export const systemCommand: string = systemHost.command;
