/** `bureau machine decommission`: a machine stops what it runs and leaves the fleet. */

import { decommissionMachine } from "@bureau/control/machines/decommission";
import { parseDuration } from "@bureau/kit/duration";
import { BureauError } from "@bureau/kit/errors";
import { DECOMMISSION_GRACE_SECONDS_MAX } from "@bureau/schema/events";
import { booleanFlag, type Invocation, stringFlag } from "../command/command.ts";
import { accountKeys, machineOf, openSession, serverAdmin } from "../command/operator.ts";
import { reportRemoval } from "./removal-report.ts";

const GRACE_DEFAULT = "60s";

export async function run(invocation: Invocation): Promise<number> {
  const { terminal } = invocation;
  const purges = booleanFlag(invocation, "purge-agents");
  const result = await decommissionMachine({
    session: openSession(invocation),
    machine: machineOf(invocation, invocation.args[0]),
    graceSeconds: graceOf(invocation),
    offline: booleanFlag(invocation, "offline"),
    force: booleanFlag(invocation, "force"),
    ...(purges ? { purge: accountKeys(invocation) } : {}),
    admin: serverAdmin(invocation),
    steps: terminal,
  });
  return reportRemoval(terminal, result, {
    gone: "has left the fleet",
    json: booleanFlag(invocation, "json"),
  });
}

function graceOf(invocation: Invocation): number {
  const typed = stringFlag(invocation, "grace") ?? GRACE_DEFAULT;
  const seconds = Math.ceil(parseDuration(typed, "--grace") / 1_000);
  if (seconds > DECOMMISSION_GRACE_SECONDS_MAX)
    throw new BureauError(
      "invalid-input",
      `--grace "${typed}" is more than the ${DECOMMISSION_GRACE_SECONDS_MAX} s a machine gives its agents`,
    );
  return seconds;
}
