/** The `bureau` command. */
import { onRateLimitWait } from "@bureau/kit/rate-limit";
import { useAbsolutePath } from "@bureau/os/search-path";
import { useEgressOfPerson } from "./command/person-egress.ts";
import { runCommand } from "./command/run.ts";
import { openTerminal } from "./command/terminal.ts";
import { root } from "./command-tree.ts";

// sudo and ssh are looked for here, too.
useAbsolutePath();
useEgressOfPerson(process.env);
const terminal = openTerminal(process.env);
onRateLimitWait(({ act, waitMs }) =>
  terminal.note(`the homeserver limits the request rate: waiting ${Math.ceil(waitMs / 1_000)} s to ${act}`),
);
void runCommand(root, process.argv.slice(2), terminal, process.env).then((code) => process.exit(code));
