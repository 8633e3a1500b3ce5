/**
 * The declaration of each command, for help, completion and parsing. Here, from sources, every command is imported for
 * it. A build replaces this module with the data itself (scripts/command-declarations.ts), so that `bureau --help` loads
 * no implementation.
 */
import type { CommandDefinition, Declaration } from "./command/command.ts";
import { type CommandPath, commandFiles } from "./command-files.ts";

const declarationOf = ({ run: _, ...declaration }: CommandDefinition): Declaration => declaration;

const entries = await Promise.all(
  Object.entries(commandFiles).map(
    async ([path, load]) => [path, declarationOf((await load()).command)] as const,
  ),
);

export const declarations = Object.fromEntries(entries) as Readonly<Record<CommandPath, Declaration>>;
