/**
 * Runs one of the commands that only read, without what the others need. A build makes a bundle of its own of this module: it
 * is a fifth of the whole program, and a runtime evaluates a bundle's outermost scope before the first command.
 */
import { commandTree } from "./command-tree.ts";
import { readCommandFiles } from "./read-command-files.ts";
import { runTypedCommand } from "./run-typed-command.ts";

export const runReadCommand = (): Promise<never> => runTypedCommand(commandTree(readCommandFiles));
