/** `bureau agent logs`: the last lines of an agent's terminal, also of one that has ended. */

import { BureauError } from "@bureau/kit/errors";
import { accountOf } from "@bureau/schema/refs";
import { booleanFlag, type Invocation, stringFlag } from "../command/command.ts";
import { agentLogs } from "../instance/daemon-client.ts";
import { requireInstallation } from "../instance/installation.ts";
import { machineOf, principalOf, storedSession } from "../instance/operator.ts";

const LINES_DEFAULT = 200;

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const principal = accountOf(principalOf(machineOf(invocation), invocation.args[0] ?? ""));
  const typed = stringFlag(invocation, "lines");
  const lines = typed === undefined ? LINES_DEFAULT : Number(typed);
  if (!Number.isInteger(lines) || lines < 1 || lines > 50_000)
    throw new BureauError("invalid-input", `--lines "${typed}" is not a whole number from 1 to 50000`);
  const { token } = storedSession(invocation);
  const reply = await agentLogs(requireInstallation(invocation).layout, { token, principal, lines });
  if (booleanFlag(invocation, "json")) terminal.json({ principal, live: reply.live, output: reply.output });
  else if (reply.output !== "") terminal.print(reply.output.replace(/\n+$/, ""));
}
