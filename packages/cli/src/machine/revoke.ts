/** `bureau machine revoke`: cuts off a machine that is no longer trusted. */

import { revokeMachine } from "@bureau/control/machines/revoke";
import { booleanFlag, type Invocation, stringFlag } from "../command/command.ts";
import { accountKeysIfAtHand, machineOf, openSession, serverAdmin } from "../command/operator.ts";
import { reportRemoval } from "./removal-report.ts";

export async function run(invocation: Invocation): Promise<number> {
  const { terminal } = invocation;
  const result = await revokeMachine({
    session: openSession(invocation),
    machine: machineOf(invocation, invocation.args[0]),
    reason: stringFlag(invocation, "reason"),
    admin: serverAdmin(invocation),
    keys: accountKeysIfAtHand(invocation),
    purge: booleanFlag(invocation, "purge-agents"),
    steps: terminal,
  });
  const { account, agents, problems } = result;
  const hasFailed = problems.length > 0 || agents.some((agent) => agent.account === "failed");
  const isDone = account === "deactivated" && !hasFailed;
  return reportRemoval(terminal, result, {
    ...{ gone: "is revoked", isDone, json: booleanFlag(invocation, "json") },
  });
}
