/** `bureau machine decommission`: a machine stops its sandboxes and leaves the fleet. */
import { decommissionMachine } from "@bureau/control/machines/decommission";
import { parseDuration } from "@bureau/kit/duration";
import { BureauError } from "@bureau/kit/errors";
import { DECOMMISSION_GRACE_SECONDS_MAX } from "@bureau/schema/events";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { accountKeys, machineOf, openSession, serverAdmin } from "../command/operator.ts";
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
  grace: {
    type: "string",
    value: "DURATION",
    excludes: ["offline"],
    summary: "Time for its agents to stop, at most 10m (default: 60s)",
  },
  offline: { type: "boolean", summary: "Do not wait for the machine: it is off or lost" },
  force: {
    type: "boolean",
    excludes: ["offline"],
    summary: "Remove it even if it does not answer in time",
  },
  "purge-agents": {
    type: "boolean",
    summary: "Also deactivate the accounts of its agents that no other machine runs; cannot be undone",
  },
});
const positionals = definePositionals([machinePositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Stop what a machine runs, and remove it from the fleet",
  details:
    "The machine stops its agents, each with a grace period, confirms, and leaves. Then the command clears its state,\nremoves it from its rooms and locks its account. After an interruption, run it again to continue. A machine that does\nnot answer in time stays in the fleet, unless --force or --offline is given.",
  positionals,
  flags,
  examples: [
    "bureau machine decommission gpu-box",
    "bureau machine decommission bureau/fleet/prod/machine/old --offline --purge-agents",
  ],
  run,
});

const GRACE_DEFAULT = "60s";

async function run(invocation: Asked): Promise<number> {
  const { terminal } = invocation;
  const purges = invocation.flags["purge-agents"];
  const result = await decommissionMachine({
    session: openSession(invocation),
    machine: machineOf(invocation, invocation.args.machine),
    graceSeconds: graceOf(invocation),
    offline: invocation.flags.offline,
    force: invocation.flags.force,
    ...(purges ? { purge: accountKeys(invocation) } : {}),
    admin: serverAdmin(invocation),
    steps: terminal,
  });
  return reportRemoval(terminal, result, {
    gone: "has left the fleet",
    json: invocation.flags.json,
  });
}

function graceOf(invocation: Asked): number {
  const typed = invocation.flags.grace ?? GRACE_DEFAULT;
  const seconds = Math.ceil(parseDuration(typed, "--grace") / 1_000);
  if (seconds > DECOMMISSION_GRACE_SECONDS_MAX)
    throw new BureauError(
      "invalid-input",
      `--grace "${typed}" is more than ${DECOMMISSION_GRACE_SECONDS_MAX} s, the maximum`,
    );
  return seconds;
}
