/** `bureau machine list`: the machines that have joined the fleet. */
import { fleetMachines } from "@bureau/control/machines/fleet-machines";
import type { ListedMachine } from "@bureau/control/machines/list-machines";
import { versionName } from "@bureau/control/rollouts/upgrade-target";
import { withAge } from "@bureau/kit/age";
import { systemClock } from "@bureau/kit/clock";
import type { MachineVersion } from "@bureau/schema/events";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { defaultFleet, openSession } from "../command/operator.ts";
import { fleetFlag, jsonFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...fleetFlag });
const positionals = definePositionals([
  { name: "fleet", summary: "NAMESPACE/fleet/NAME (default: this machine's)", optional: true },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "List the machines of the fleet",
  positionals,
  flags,
  examples: ["bureau machine list", "bureau machine list bureau/fleet/prod"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const fleet = defaultFleet(invocation, invocation.args.fleet);
  const now = systemClock.now();
  const machines = await fleetMachines(session, fleet, now);
  if (invocation.flags.json) {
    terminal.json({ machines });
    return;
  }
  terminal.table(
    ["MACHINE", "STATE", "HOST", "VERSION", "SANDBOXES", "CPU", "MEMORY", "LAST SEEN"],
    machines.map((machine) => [
      machine.name,
      machine.state,
      machine.hostname ?? "",
      machine.version === undefined ? (machine.daemon_version ?? "") : describe(machine.version),
      String(machine.sandboxes ?? ""),
      machine.cpu_percent === undefined ? "" : `${machine.cpu_percent} %`,
      memoryOf(machine),
      machine.last_seen === undefined ? "never" : withAge(machine.last_seen, now),
    ]),
  );
}

/** A heartbeat has the usage; the capacity is in another event, which may be missing. */
function memoryOf({ memory_used_mb: used, memory_mb: all }: ListedMachine): string {
  if (used === undefined) return "";
  return all === undefined ? `${used} MB` : `${used} of ${all} MB`;
}

function describe({ version, programs, state, step }: MachineVersion): string {
  const name = versionName(version, programs);
  if (state === "upgrading") return `${name} (upgrading: ${step ?? "requested"})`;
  return state === "failed" ? `${name} (last upgrade failed)` : name;
}
