/** `bureau auth list`: the temporal grants of a machine. */
import { hasEnded, listTemporalGrants } from "@bureau/control/authorization/temporal-grants";
import { configPlace } from "@bureau/control/machines/machine-config";
import { systemClock } from "@bureau/kit/clock";
import { defineCommand, defineFlags, type Invocation } from "../command/command.ts";
import { machineOf, openSession } from "../command/operator.ts";
import { jsonFlag, machineFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...machineFlag });
type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary: "List the grants of a machine that are given for a time",
  details: "bureau auth grants shows every rule that applies to one user.",
  flags,
  examples: ["bureau auth list"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const { room } = await configPlace(session, machineOf(invocation, invocation.flags.machine));
  const grants = await listTemporalGrants(session, room);
  const nowMs = systemClock.now();
  if (invocation.flags.json) {
    terminal.json({ grants: grants.map((one) => ({ ...one, ended: hasEnded(one, nowMs) })) });
    return;
  }
  terminal.table(
    ["TICKET", "PRINCIPAL", "ACTIONS", "TARGETS", "UNTIL", "BY"],
    grants.map((one) => [
      one.ticket,
      one.principal,
      one.grant.actions.join(" "),
      (one.grant.targets ?? []).join(" "),
      `${one.grant.expires_at ?? ""}${hasEnded(one, nowMs) ? " (ended)" : ""}`,
      one.sender,
    ]),
  );
}
