/** What decommission and revoke report at the end. */
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
  elsewhere: "unchanged: another machine runs it",
  failed: "could not be closed or logged out",
};

/**
 * Prints the outcome. Returns the exit code: 1 when the machine is still in the fleet, or when `isDone` says that another
 * part failed.
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
      `${error} "${machine}" is still in ${still_in.join(", ")}\n\n  → run the command again as a user with power 100 there`,
    );
  else if (!ok)
    terminal.say(
      `${error} "${machine}" has left its fleet, but parts could not be revoked: see above\n\n  → fix that, then run the command again`,
    );
  return ok ? 0 : 1;
}
