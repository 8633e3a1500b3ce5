/** What decommission and revoke tell the person at the end. */

import type { AgentFate } from "@bureau/control/machines/decommission";
import { localpartOf } from "@bureau/schema/refs";
import type { Terminal } from "../command/terminal.ts";

type Outcome = {
  readonly machine: string;
  readonly still_in: readonly string[];
  readonly agents: readonly AgentFate[];
  readonly problems: readonly string[];
};

const fates: Readonly<Record<AgentFate["account"], string>> = {
  kept: "its account stays",
  closed: "its account is closed",
  "logged-out": "its sessions are ended; its account stays",
  elsewhere: "untouched: another machine runs it",
  failed: "could not be dealt with",
};

/**
 * Prints what is left to know. Returns the exit code: 1 when the machine is still in the fleet, or `isDone` says that
 * something else which was promised could not be done.
 */
export function reportRemoval(
  terminal: Terminal,
  outcome: Outcome,
  { gone, isDone = true, json }: { readonly gone: string; readonly isDone?: boolean; readonly json: boolean },
): number {
  const { machine, still_in, agents, problems } = outcome;
  const hasLeft = still_in.length === 0;
  const ok = hasLeft && isDone;
  for (const problem of problems) terminal.say(`\nnote: ${problem}`);
  if (json) terminal.json({ ok, ...outcome });
  else if (ok) {
    terminal.print(`${machine} ${gone}`);
    for (const { user_id, account } of agents) terminal.print(`  ${localpartOf(user_id)}: ${fates[account]}`);
  }
  const error = terminal.style.red("error:");
  if (!hasLeft)
    terminal.say(
      `${error} "${machine}" is still in ${still_in.join(", ")}\n\n  → run the command again as somebody with power 100 there`,
    );
  else if (!ok)
    terminal.say(
      `${error} "${machine}" is out of its fleet, and not all of it is cut off: see above\n\n  → run the command again once that is mended`,
    );
  return ok ? 0 : 1;
}
