/** Runs what was typed, and exits. The programs of the bundles differ in the commands that they can run. */
import { onRateLimitWait } from "@bureau/kit/rate-limit";
import { useAbsolutePath } from "@bureau/os/search-path";
import type { CommandGroup } from "./command/command.ts";
import { useEgressOfPerson } from "./command/person-egress.ts";
import { runCommand } from "./command/run.ts";
import { openTerminal } from "./command/terminal.ts";

/** Runs the command of this process's arguments, and exits. */
export async function runTypedCommand(root: CommandGroup): Promise<never> {
  // sudo and ssh are looked for here, too.
  useAbsolutePath();
  useEgressOfPerson(process.env);
  const terminal = openTerminal(process.env);
  onRateLimitWait(({ act, waitMs }) =>
    terminal.note(`the homeserver limits the request rate: waiting ${Math.ceil(waitMs / 1_000)} s to ${act}`),
  );
  process.exit(await runCommand(root, process.argv.slice(2), terminal, process.env));
}
