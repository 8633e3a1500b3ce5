/** `bureau template impact`: the principals of the fleet that use a template. */
import { templateImpact } from "@bureau/control/templates/template-impact";
import { requireTemplate } from "@bureau/control/templates/template-store";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { defaultFleet, openSession } from "../command/operator.ts";
import { fleetFlag, jsonFlag, sessionFlags } from "../command/shared-flags.ts";
import { asTyped } from "../command/typed-command.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...fleetFlag });
const positionals = definePositionals([
  { name: "ref", summary: "Template reference, bureau/template:agent" },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "List the principals that use a template, directly or by inheritance",
  positionals,
  flags,
  examples: ["bureau template impact bureau/template:agent"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const reference = invocation.args.ref;
  const session = openSession(invocation);
  const fleet = defaultFleet(invocation);
  await requireTemplate(session, reference);
  const { touched, unreadable } = await templateImpact(session, fleet, reference);
  if (invocation.flags.json) {
    const principals = touched.map(({ machine, principal, template }) => ({ machine, principal, template }));
    terminal.json({ ref: reference, fleet, principals, unreadable });
    return;
  }
  terminal.table(
    ["PRINCIPAL", "MACHINE", "TEMPLATE"],
    touched.map(({ principal, machine, template }) => [principal, machine, template]),
  );
  for (const { machine, reason } of unreadable)
    terminal.say(`Cannot read the configuration of ${machine}: ${asTyped(reason)}`);
}
