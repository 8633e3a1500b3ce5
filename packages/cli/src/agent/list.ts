/** `bureau agent list`: the principals assigned to a machine, and the state of each. */
import { configPlace, readAssignments } from "@bureau/control/machines/machine-config";
import { defineCommand, defineFlags, type Invocation } from "../command/command.ts";
import { machineOf, openSession } from "../command/operator.ts";
import { jsonFlag, machineFlag, sessionFlags } from "../command/shared-flags.ts";
import { asTyped } from "../command/typed-command.ts";
import { sayUnreadable, withStates } from "./agent-states.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...machineFlag });
type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary: "List the agents assigned to a machine",
  flags,
  examples: ["bureau agent list"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const machine = machineOf(invocation, invocation.flags.machine);
  const { assignments, unreadable } = await readAssignments(session, await configPlace(session, machine));
  const agents = await withStates(invocation, session, machine, assignments);
  if (invocation.flags.json) {
    terminal.json(agents);
    return;
  }
  terminal.table(
    ["NAME", "STATE", "HEALTH", "RESTARTS", "TEMPLATE", "REASON"],
    agents.map((agent) => [
      agent.name,
      agent.state,
      agent.health ?? "",
      String(agent.restarts),
      agent.template,
      asTyped(agent.reason ?? ""),
    ]),
  );
  sayUnreadable(terminal, machine, unreadable);
}
