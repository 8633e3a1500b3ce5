/** `bureau debug authorization` */
import { debugCommand } from "./debug-command.ts";

export const command = debugCommand("authorization", "Print the policies from which the daemon decides");
