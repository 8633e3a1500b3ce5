/** The `bureau` command. */
import { runCommand } from "./command/run.ts";
import { openTerminal } from "./command/terminal.ts";
import { root } from "./tree/root.ts";

const terminal = openTerminal(process.env);
process.exit(await runCommand(root, process.argv.slice(2), terminal, process.env));
