/** The tree of all commands, each of which can run. */
import { commandFiles } from "./command-files.ts";
import { commandTree } from "./command-tree.ts";

export const root = commandTree(commandFiles);
