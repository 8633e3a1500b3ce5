/** `bureau debug rooms` */
import { debugCommand } from "./debug-command.ts";

export const command = debugCommand("rooms", "Print the rooms that the daemon has synced");
