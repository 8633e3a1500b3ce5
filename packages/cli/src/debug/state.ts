/** `bureau debug state` */
import { debugCommand } from "./debug-command.ts";

export const command = debugCommand("state", "Print the states of the reconciler and of the upgrader");
