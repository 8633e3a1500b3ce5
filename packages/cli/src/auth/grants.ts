/** `bureau auth grants`: every rule of one side that applies to a user, with its source. */
import { queryGrants } from "@bureau/os/daemon-client";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { jsonFlag, machineFlag, sessionFlags } from "../command/shared-flags.ts";
import { typedUser } from "../command/typed-users.ts";
import { askHere } from "./ask-here.ts";
import { printRules } from "./rule-table.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...machineFlag });
const positionals = definePositionals([{ name: "principal", summary: "A principal, or a person after @" }]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Show what a user may do, and which rules say so",
  positionals,
  flags,
  examples: ["bureau auth grants agent/demo"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal, args } = invocation;
  const here = askHere(invocation);
  const principal = typedUser(here.machine, here.server, args.principal);
  const reply = await queryGrants(here.layout, { token: here.token, principal });
  const { grants = [], denials = [] } = reply;
  if (invocation.flags.json) terminal.json({ principal, grants, denials });
  else printRules(terminal, "TARGETS", grants, denials);
}
