/** `bureau machine revoke`: removes a machine that is no longer trusted, without its help. */
import { revokeMachine } from "@bureau/control/machines/revoke";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { accountKeysIfAtHand, machineOf, openSession, serverAdmin } from "../command/operator.ts";
import {
  adminTokenFlag,
  fleetFlag,
  jsonFlag,
  machinePositional,
  sessionFlags,
} from "../command/shared-flags.ts";
import { reportRemoval } from "./removal-report.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...fleetFlag,
  ...adminTokenFlag,
  reason: { type: "string", value: "TEXT", mayBeEmpty: true, summary: "Reason, for the record" },
  "purge-agents": { type: "boolean", summary: "Also deactivate its agents' accounts; cannot be undone" },
});
const positionals = definePositionals([machinePositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Remove a machine that is no longer trusted from the fleet, at once",
  details:
    "Deactivates its account, removes it from every room, clears its state, publishes the revocation and ends its agents'\nsessions. Its daemon destroys every sandbox when it sees this. Does not contact the machine.",
  positionals,
  flags,
  examples: ["bureau machine revoke gpu-box --reason 'stolen'"],
  run,
});

async function run(invocation: Asked): Promise<number> {
  const { terminal } = invocation;
  const result = await revokeMachine({
    session: openSession(invocation),
    machine: machineOf(invocation, invocation.args.machine),
    reason: invocation.flags.reason,
    admin: serverAdmin(invocation),
    keys: accountKeysIfAtHand(invocation),
    purge: invocation.flags["purge-agents"],
    steps: terminal,
  });
  const { account, agents, problems } = result;
  const hasFailed = problems.length > 0 || agents.some((agent) => agent.account === "failed");
  const isDone = account === "deactivated" && !hasFailed;
  return reportRemoval(terminal, result, {
    gone: "is revoked",
    isDone,
    json: invocation.flags.json,
  });
}
