/** `bureau agent show`: an agent's assignment, what it is doing, and what it may reach. */
import { configPlace, readAssignments } from "@bureau/control/machines/machine-config";
import { notAssigned } from "@bureau/control/principals/principals";
import { type Reach, reachOf } from "@bureau/control/templates/reach";
import { serverOf, userIdOf } from "@bureau/schema/refs";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { machineOf, openSession, principalOf } from "../command/operator.ts";
import { agentPositional, jsonFlag, machineFlag, sessionFlags } from "../command/shared-flags.ts";
import { asTyped } from "../command/typed-command.ts";
import { describeSandbox } from "./agent-report.ts";
import { withStates } from "./agent-states.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...machineFlag });
const positionals = definePositionals([agentPositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Show an agent's assignment, what it is doing, and what it may reach",
  positionals,
  flags,
  examples: ["bureau agent show demo"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const machine = machineOf(invocation, invocation.flags.machine);
  const principal = principalOf(machine, invocation.args.name);
  const user = userIdOf(principal, serverOf(session.userId));
  const { assignments } = await readAssignments(session, await configPlace(session, machine));
  const assignment = assignments.find((candidate) => candidate.principal === user);
  if (assignment === undefined) throw notAssigned(machine, principal, assignments);
  const [agent] = await withStates(invocation, session, machine, [assignment]);
  const reach = await reachOf(session, assignment);
  if (invocation.flags.json) {
    terminal.json({ ...agent, reach, assignment });
    return;
  }
  const { sandbox, ...facts } = agent ?? {};
  for (const [name, value] of Object.entries(facts))
    terminal.print(`${name.padEnd(12)}${asTyped(String(value))}`);
  for (const [name, value] of Object.entries(sandbox === undefined ? {} : describeSandbox(sandbox)))
    terminal.print(`${name.padEnd(12)}${value}`);
  terminal.print("may reach");
  for (const line of "problem" in reach ? [`unknown: ${reach.problem}`] : linesOf(reach))
    terminal.print(`  ${line}`);
  terminal.print("assignment");
  for (const line of JSON.stringify(assignment, null, 2).split("\n")) terminal.print(`  ${line}`);
}

/** Its homeserver, by its proxy, is always there. */
const linesOf = ({ upstreams, egress, network }: Reach): string[] => [
  "Matrix, as itself (/http/matrix/)",
  ...upstreams.map(
    ({ name, upstream, credentials }) =>
      `${upstream} (/http/${name}/)${credentials.length === 0 ? "" : `, with ${credentials.join(", ")}`}`,
  ),
  ...egress.map((entry) => `${entry} (HTTP_PROXY, HTTPS_PROXY)`),
  network === "host"
    ? "all that this host reaches: it shares the host's network"
    : "no other host: its network is its own",
];
