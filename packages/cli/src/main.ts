/** The `bureau` command: help at once, everything else by a bundle that it loads when needed. */
import { printHelp } from "./command/print-help.ts";
import { quickHelp } from "./quick-help.ts";

const help = quickHelp(process.argv.slice(2), process.env);
if (help === undefined) void import("./program.ts").then(({ runTypedCommand }) => runTypedCommand());
else void printHelp(help).then(() => process.exit(0));
