/** The `bureau` command: help at once, everything else by a bundle that it loads when needed. */
import { printHelp } from "./command/print-help.ts";
import { quickHelp } from "./quick-help.ts";
import { isReadCommand } from "./read-commands.ts";

const argv = process.argv.slice(2);
const help = quickHelp(argv, process.env);
if (help !== undefined) void printHelp(help).then(() => process.exit(0));
else if (isReadCommand(argv)) void import("./read-program.ts").then(({ runReadCommand }) => runReadCommand());
else void import("./program.ts").then(({ runAnyCommand }) => runAnyCommand());
