/** `bureau fleet list`: the fleets of a namespace. */
import { parseNamespace } from "@bureau/schema/refs";
import { booleanFlag, type Invocation, stringFlag } from "../command/command.ts";
import { listMachines } from "../instance/machines.ts";
import { namespaceOfInvocation, openSession } from "../instance/operator.ts";
import { listFleets } from "../instance/places.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const typed = stringFlag(invocation, "namespace");
  const namespace = typed === undefined ? namespaceOfInvocation(invocation) : parseNamespace(typed);
  const session = openSession(invocation);
  const fleets = await Promise.all(
    (await listFleets(session, namespace)).map(async ({ fleet, room }) => ({
      ...{ fleet, room_id: room },
      machines: (await listMachines(session, fleet)).length,
    })),
  );
  if (booleanFlag(invocation, "json")) terminal.json({ fleets });
  else
    terminal.table(
      ["FLEET", "MACHINES"],
      fleets.map(({ fleet, machines }) => [fleet, String(machines)]),
    );
}
