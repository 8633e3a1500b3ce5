/** `bureau machine config`: shows fields of a machine's configuration that cannot be read, and removes them. */

import { configFaults, configPlace, repairConfig } from "@bureau/control/machines/machine-config";
import type { StateContent } from "@bureau/matrix/edit-state";
import { takeTurn } from "@bureau/os/turn";
import { eventTypes } from "@bureau/schema/events";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { machineOf, openSession } from "../command/operator.ts";
import { sayNext } from "../command/say-next.ts";

export async function run(invocation: Invocation): Promise<number> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const machine = machineOf(invocation, invocation.args[0]);
  const place = await configPlace(session, machine);
  const repair = booleanFlag(invocation, "repair");
  const content = repair ? {} : await session.getState(place.room, eventTypes.machineConfig, place.key);
  const faults = repair
    ? await repairConfig({ session, takeTurn }, place)
    : configFaults((content ?? {}) as StateContent);
  const event = `${eventTypes.machineConfig} "${place.key}"`;
  if (booleanFlag(invocation, "json"))
    terminal.json({ machine, room_id: place.room, faults, repaired: repair && faults.length > 0 });
  else if (faults.length === 0) terminal.print(`${event} can be read`);
  else {
    terminal.print(`${repair ? "Removed from" : "Cannot be read in"} ${event}:`);
    for (const { field, fault } of faults) terminal.print(`  ${field}: ${fault}`);
    if (!repair) sayNext(terminal, `bureau machine config ${machine} --repair`);
  }
  return repair || faults.length === 0 ? 0 : 1;
}
