/** `bureau machine show`: hardware, state and assignments of one machine. */
import { notJoined } from "@bureau/control/machines/labels";
import { findMachine, isOnline, type ListedMachine } from "@bureau/control/machines/list-machines";
import { configPlace, readAssignments, readDesiredVersion } from "@bureau/control/machines/machine-config";
import { withAge } from "@bureau/kit/age";
import { systemClock } from "@bureau/kit/clock";
import { sayUnreadable, withStates } from "../agent/agent-states.ts";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { machineOf, openSession } from "../command/operator.ts";
import { fleetFlag, jsonFlag, optionalMachinePositional, sessionFlags } from "../command/shared-flags.ts";
import { asTyped } from "../command/typed-command.ts";
import { printVersion } from "./version-report.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...fleetFlag });
const positionals = definePositionals([optionalMachinePositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Show a machine's hardware, state and assignments",
  positionals,
  flags,
  examples: ["bureau machine show", "bureau machine show gpu-box --json"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const machine = machineOf(invocation, invocation.args.machine);
  const place = await configPlace(session, machine);
  const found = await findMachine(session, machine);
  if (found === undefined) throw notJoined(machine);
  const { version, ...machineFacts } = found;
  const [{ assignments, unreadable }, desired] = await Promise.all([
    readAssignments(session, place),
    readDesiredVersion(session, place),
  ]);
  const now = systemClock.now();
  const state = isOnline(found, now) ? "online" : "offline";
  const result = {
    ...found,
    state,
    assignments,
    ...(desired === undefined ? {} : { desired_version: desired }),
  };
  if (invocation.flags.json) {
    terminal.json(result);
    return;
  }
  for (const [name, value] of Object.entries(facts(machineFacts, state, now)))
    terminal.print(`${name.padEnd(18)}${typeof value === "object" ? JSON.stringify(value) : String(value)}`);
  if (version !== undefined) printVersion(terminal, version, desired);
  terminal.print("");
  const agents = await withStates(invocation, session, machine, assignments);
  terminal.table(
    ["PRINCIPAL", "STATE", "TEMPLATE", "REASON"],
    agents.map((agent) => [agent.principal, agent.state, agent.template, asTyped(agent.reason ?? "")]),
  );
  sayUnreadable(terminal, machine, unreadable);
}

/** Facts that the table of agents below does not show. */
function facts(
  { name, principals: _, heartbeat_interval_seconds: __, ...found }: ListedMachine,
  state: string,
  now: number,
): object {
  const seen = found.last_seen === undefined ? "never" : withAge(found.last_seen, now);
  return { name, state, ...found, last_seen: seen };
}
