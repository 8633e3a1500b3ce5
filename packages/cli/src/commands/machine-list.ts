/** `bureau machine list`: the machines that have joined the fleet. */
import { booleanFlag, type Invocation } from "../command/command.ts";
import { listMachines } from "../instance/machines.ts";
import { instanceOf, openSession } from "../instance/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const machines = await listMachines(openSession(invocation), instanceOf(invocation).fleet);
  if (booleanFlag(invocation, "json")) {
    terminal.json({ machines });
    return;
  }
  terminal.table(
    ["MACHINE", "HOST", "SANDBOXES", "CPU", "MEMORY", "LAST SEEN"],
    machines.map((machine) => [
      machine.name,
      machine.hostname ?? "",
      String(machine.sandboxes ?? ""),
      machine.cpu_percent === undefined ? "" : `${machine.cpu_percent} %`,
      machine.memory_used_mb === undefined ? "" : `${machine.memory_used_mb} of ${machine.memory_mb} MB`,
      machine.last_seen ?? "never",
    ]),
  );
}
