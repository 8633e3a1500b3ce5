/** `bureau debug plan` */
import { debugCommand } from "./debug-command.ts";

export const command = debugCommand("plan", "Print the inputs and the result of the daemon's planner, now");
