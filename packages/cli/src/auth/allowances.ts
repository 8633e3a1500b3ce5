/** `bureau auth allowances`: every rule of one side that applies to a user, with its source. */
import { queryAllowances } from "@bureau/os/daemon-client";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { jsonFlag, machineFlag, sessionFlags } from "../command/shared-flags.ts";
import { typedUser } from "../command/typed-users.ts";
import { askHere } from "./ask-here.ts";
import { printRules } from "./rule-table.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...machineFlag });
const positionals = definePositionals([{ name: "principal", summary: "A principal, or a person after @" }]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Show what others may do to a principal",
  positionals,
  flags,
  examples: ["bureau auth allowances agent/demo"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal, args } = invocation;
  const here = askHere(invocation);
  const principal = typedUser(here.machine, here.server, args.principal);
  const reply = await queryAllowances(here.layout, { token: here.token, principal });
  const { allowances = [], allowance_denials = [] } = reply;
  if (invocation.flags.json) terminal.json({ principal, allowances, allowance_denials });
  else printRules(terminal, "ACTORS", allowances, allowance_denials);
}
