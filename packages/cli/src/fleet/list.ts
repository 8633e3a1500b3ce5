/** `bureau fleet list`: the fleets of a namespace. */

import { listMachines } from "@bureau/control/machines/list-machines";
import { listFleets } from "@bureau/control/rooms/places";
import { parseNamespace } from "@bureau/schema/refs";
import { booleanFlag, type Invocation, stringFlag } from "../command/command.ts";
import { namespaceOfInvocation, openSession } from "../command/operator.ts";

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
