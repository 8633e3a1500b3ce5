/** `bureau credential list`: the names of the credentials of a machine's principals. Never a value. */
import { listCredentials } from "@bureau/control/credentials/credential-keys";
import { principalNameOf, principalOfUser } from "@bureau/schema/refs";
import { defineCommand, type Invocation } from "../command/command.ts";
import { machineOf, openSession } from "../command/operator.ts";
import { asTyped } from "../command/typed-command.ts";
import { ownerFlags as flags } from "./credential-owner.ts";

type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary:
    "List the names of credentials, their recipients, and when and by which user they were provisioned",
  flags,
  examples: ["bureau credential list", "bureau credential list --machine box --json"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const machine = machineOf(invocation, invocation.flags.machine);
  const all = (await listCredentials(session, machine)).map((one) => ({
    ...one,
    name: principalNameOf(principalOfUser(one.principal)),
  }));
  if (invocation.flags.json) {
    terminal.json(all);
    return;
  }
  terminal.table(
    ["PRINCIPAL", "KEY", "STATE", "PROVISIONED", "BY", "SEALED FOR"],
    all.flatMap(({ name, keys }) =>
      keys.map((key) => [
        name,
        key.name,
        key.revoked === true ? "revoked" : "",
        key.provisioned_at,
        key.provisioned_by,
        key.encrypted_for.join(" "),
      ]),
    ),
  );
  for (const { name, fault } of all)
    if (fault !== undefined) terminal.say(`The credentials of ${name} cannot be read: ${asTyped(fault)}`);
}
