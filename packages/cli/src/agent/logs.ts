/** `bureau agent logs`: the last lines of the terminal of a running or ended agent. */
import { findMachine } from "@bureau/control/machines/list-machines";
import { BureauError } from "@bureau/kit/errors";
import { shellLine } from "@bureau/kit/shell-words";
import { agentLogs } from "@bureau/os/daemon-client";
import { systemHost } from "@bureau/os/layout";
import { type MachineLocalpart, principalNameOf } from "@bureau/schema/refs";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { requireInstallation } from "../command/installation.ts";
import { isHere, machineOf, openSession, principalOf, storedSession } from "../command/operator.ts";
import { agentPositional, jsonFlag, machineFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...machineFlag,
  lines: { type: "string", short: "n", value: "N", summary: "How many lines (default: 200)" },
});
const positionals = definePositionals([agentPositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Print the last lines of an agent's terminal",
  details:
    "Only the agent's own machine can read its terminal; for another machine's agent this prints the command to type there.",
  positionals,
  flags,
  examples: ["bureau agent logs demo", "bureau agent logs demo -n 20"],
  run,
});

const LINES_DEFAULT = 200;

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const machine = machineOf(invocation, invocation.flags.machine);
  const principal = principalNameOf(principalOf(machine, invocation.args.name));
  const typed = invocation.flags.lines;
  const lines = typed === undefined ? LINES_DEFAULT : Number(typed);
  if (!Number.isInteger(lines) || lines < 1 || lines > 50_000)
    throw new BureauError("invalid-input", `--lines "${typed}" is not a whole number from 1 to 50000`);
  if (!isHere(invocation, machine)) throw await readThere(invocation, machine, principal);
  const { token } = storedSession(invocation);
  const reply = await agentLogs(requireInstallation(invocation).layout, { token, principal, lines });
  if (invocation.flags.json) terminal.json({ principal, live: reply.live, output: reply.output });
  else if (reply.output !== "") terminal.print(reply.output.replace(/\n+$/, ""));
}

/** The wire has no message that carries terminal output from one machine to another. */
async function readThere(
  invocation: Asked,
  machine: MachineLocalpart,
  principal: string,
): Promise<BureauError> {
  const found = await findMachine(openSession(invocation), machine);
  return new BureauError(
    "unsupported",
    `The terminal of "${principal}" is on "${machine}", and only that machine can read it`,
    {
      hint: `${shellLine(["ssh", found?.hostname ?? "HOST", systemHost.command, "agent", "logs", principal])}; after a failure its last lines are in bureau matrix messages ${machine}`,
    },
  );
}
