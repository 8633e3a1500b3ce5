/** `bureau machine show`: hardware, state and assignments of one machine. */
import { BureauError } from "@bureau/kit/errors";
import { fleetOf } from "@bureau/schema/refs";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { configPlace, readAssignments, readDesiredVersion } from "../instance/machine-config.ts";
import { listMachines } from "../instance/machines.ts";
import { machineOf, openSession } from "../instance/operator.ts";
import { readMachineVersion } from "../upgrade/upgrade-request.ts";
import { withStates } from "./agent-list.ts";
import { printVersion } from "./version-report.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const machine = machineOf(invocation, invocation.args[0]);
  const found = (await listMachines(session, fleetOf(machine))).find(({ name }) => name === machine);
  if (found === undefined)
    throw new BureauError("not-found", `The machine "${machine}" has not joined the fleet`, {
      hint: "bureau machine list",
    });
  const place = await configPlace(session, machine);
  const [{ assignments }, version, desired] = await Promise.all([
    readAssignments(session, place),
    readMachineVersion(session, place),
    readDesiredVersion(session, place),
  ]);
  const result = {
    ...found,
    assignments,
    ...(version === undefined ? {} : { version }),
    ...(desired === undefined ? {} : { desired_version: desired }),
  };
  if (booleanFlag(invocation, "json")) {
    terminal.json(result);
    return;
  }
  for (const [name, value] of Object.entries(found))
    terminal.print(`${name.padEnd(18)}${typeof value === "object" ? JSON.stringify(value) : String(value)}`);
  if (version !== undefined) printVersion(terminal, version, desired);
  terminal.print("");
  const agents = await withStates(invocation, machine, assignments);
  terminal.table(
    ["PRINCIPAL", "STATE", "TEMPLATE"],
    agents.map((agent) => [agent.principal, agent.state, agent.template]),
  );
}
