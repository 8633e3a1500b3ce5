/** `bureau machine config`: shows fields of a machine's configuration that cannot be read, and removes them. */
import { readConfigFaults, repairConfig } from "@bureau/control/machines/config-repair";
import { configPlace } from "@bureau/control/machines/machine-config";
import { takeTurn } from "@bureau/os/turn";
import { eventTypes } from "@bureau/schema/events";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { machineOf, openSession } from "../command/operator.ts";
import { sayNext } from "../command/say-next.ts";
import { fleetFlag, jsonFlag, optionalMachinePositional, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...fleetFlag,
  repair: { type: "boolean", summary: "Remove what cannot be read" },
});
const positionals = definePositionals([optionalMachinePositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Show what cannot be read in a machine's configuration, and remove it",
  details:
    "While a field cannot be read, the machine keeps its last good configuration. --repair removes such fields and\nassignments, and replaces an invalid list of assignments with the last valid list.",
  positionals,
  flags,
  examples: ["bureau machine config", "bureau machine config gpu-box --repair"],
  run,
});

async function run(invocation: Asked): Promise<number> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const machine = machineOf(invocation, invocation.args.machine);
  const place = await configPlace(session, machine);
  const repair = invocation.flags.repair;
  const faults = repair
    ? await repairConfig({ session, takeTurn }, place)
    : await readConfigFaults(session, place);
  const event = `${eventTypes.machineConfig} "${place.key}"`;
  if (invocation.flags.json)
    terminal.json({ machine, room_id: place.room, faults, repaired: repair && faults.length > 0 });
  else if (faults.length === 0) terminal.print(`${event} can be read`);
  else {
    terminal.print(`${repair ? "Removed from" : "Cannot be read in"} ${event}:`);
    for (const { field, fault } of faults) terminal.print(`  ${field}: ${fault}`);
    if (!repair) sayNext(terminal, `bureau machine config ${machine} --repair`);
  }
  return repair || faults.length === 0 ? 0 : 1;
}
