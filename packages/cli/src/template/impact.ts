/** `bureau template impact`: who in the fleet is made from a template. */

import { templateImpact } from "@bureau/control/templates/template-impact";
import { requireTemplate } from "@bureau/control/templates/template-store";
import { booleanFlag, type Invocation } from "../command/command.ts";
import { defaultFleet, openSession } from "../command/operator.ts";
import { asTyped } from "../command/typed-command.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal } = invocation;
  const reference = invocation.args[0] ?? "";
  const session = openSession(invocation);
  const fleet = defaultFleet(invocation);
  await requireTemplate(session, reference);
  const { touched, unreadable } = await templateImpact(session, fleet, reference);
  if (booleanFlag(invocation, "json")) {
    const principals = touched.map(({ machine, principal, template }) => ({ machine, principal, template }));
    terminal.json({ ref: reference, fleet, principals, unreadable });
    return;
  }
  terminal.table(
    ["PRINCIPAL", "MACHINE", "TEMPLATE"],
    touched.map(({ principal, machine, template }) => [principal, machine, template]),
  );
  for (const { machine, reason } of unreadable)
    terminal.say(`${machine} cannot be looked at: ${asTyped(reason)}`);
}
