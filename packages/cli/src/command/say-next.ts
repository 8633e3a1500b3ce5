/** Prints the next command below the output, in the form to type on this host. */
import type { Terminal } from "./terminal.ts";
import { asTyped } from "./typed-command.ts";

export const sayNext = (terminal: Terminal, next: string): void => terminal.say(`\n  → ${asTyped(next)}`);
