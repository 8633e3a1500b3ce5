/** The `bureau` command: help at once, everything else by a bundle that it loads when needed. */
import { quickHelp } from "./quick-help.ts";

const help = quickHelp(process.argv.slice(2), process.env);
if (help === undefined) void import("./program.ts").then(({ runTypedCommand }) => runTypedCommand());
// Writes all of it, also to a pipe whose reader is slow; a reader that has left does not matter.
else
  void Bun.write(Bun.stdout, `${help}\n`)
    .catch(() => {})
    .then(() => process.exit(0));
