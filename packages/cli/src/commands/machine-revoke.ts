/** `bureau machine revoke`: cuts off a machine that is no longer trusted. */
import { isBureauError } from "@bureau/kit/errors";
import { booleanFlag, type Invocation, stringFlag } from "../command/command.ts";
import type { AccountKeys } from "../instance/machine-agents.ts";
import { accountKeys, machineOf, openSession, serverAdmin } from "../instance/operator.ts";
import { revokeMachine } from "../instance/revoke.ts";
import { reportRemoval } from "./machine-removal-report.ts";

export async function run(invocation: Invocation): Promise<number> {
  const { terminal } = invocation;
  const result = await revokeMachine({
    session: openSession(invocation),
    machine: machineOf(invocation, invocation.args[0]),
    reason: stringFlag(invocation, "reason"),
    admin: serverAdmin(invocation),
    keys: keysIfAtHand(invocation),
    purge: booleanFlag(invocation, "purge-agents"),
    terminal,
  });
  const { account, agents, problems } = result;
  const hasFailed = problems.length > 0 || agents.some((agent) => agent.account === "failed");
  const isDone = account === "deactivated" && !hasFailed;
  return reportRemoval(terminal, result, {
    ...{ gone: "is revoked", isDone, json: booleanFlag(invocation, "json") },
  });
}

/** In an emergency nothing waits for a file that is not there. */
function keysIfAtHand(invocation: Invocation): AccountKeys | undefined {
  try {
    return accountKeys(invocation);
  } catch (error) {
    if (isBureauError(error) && error.code === "forbidden") return undefined;
    throw error;
  }
}
