/** `bureau agent list`: the principals assigned to a machine and the state of each. */

import { configPlace, readAssignments } from "@bureau/control/machines/machine-config";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { machineOf, openSession } from "../command/operator.ts";
import { asTyped } from "../command/typed-command.ts";
import { sayUnreadable, withStates } from "./agent-states.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const machine = machineOf(invocation);
  const { assignments, unreadable } = await readAssignments(session, await configPlace(session, machine));
  const agents = await withStates(invocation, session, machine, assignments);
  if (booleanFlag(invocation, "json")) {
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
