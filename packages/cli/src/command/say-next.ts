/** The line under what was said: the next thing to type, as it is typed here. */
import type { Terminal } from "./terminal.ts";
import { asTyped } from "./typed-command.ts";

export const sayNext = (terminal: Terminal, next: string): void => terminal.say(`\n  → ${asTyped(next)}`);
