/** `bureau machine show`: hardware, state and assignments of one machine. */
import { BureauError } from "@bureau/kit/errors";
import { fleetOf } from "@bureau/schema/refs";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { configPlace, readAssignments } from "../instance/machine-config.ts";
import { listMachines } from "../instance/machines.ts";
import { machineOf, openSession } from "../instance/operator.ts";
import { withStates } from "./agent-list.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const machine = machineOf(invocation, invocation.args[0]);
  const found = (await listMachines(session, fleetOf(machine))).find(({ name }) => name === machine);
  if (found === undefined)
    throw new BureauError("not-found", `The machine "${machine}" has not joined the fleet`, {
      hint: "bureau machine list",
    });
  const { assignments } = await readAssignments(session, await configPlace(session, machine));
  const result = { ...found, assignments };
  if (booleanFlag(invocation, "json")) {
    terminal.json(result);
    return;
  }
  for (const [name, value] of Object.entries(found))
    terminal.print(`${name.padEnd(18)}${typeof value === "object" ? JSON.stringify(value) : String(value)}`);
  terminal.print("");
  const agents = await withStates(invocation, assignments);
  terminal.table(
    ["PRINCIPAL", "STATE", "TEMPLATE"],
    agents.map((agent) => [agent.principal, agent.state, agent.template]),
  );
}
