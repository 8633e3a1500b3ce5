/** Runs a command, with everything that any of them needs. A build makes a bundle of its own of this module. */
import { root } from "./all-commands.ts";
import { runTypedCommand } from "./run-typed-command.ts";

export const runAnyCommand = (): Promise<never> => runTypedCommand(root);
