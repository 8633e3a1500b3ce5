/** `bureau credential provision`: gives a principal's proxy one more credential. */
import { provisionKeys } from "@bureau/control/credentials/credential-keys";
import { runStep } from "@bureau/kit/run-step";
import { principalNameOf } from "@bureau/schema/refs";
import {
  defineCommand,
  defineFlags,
  definePositionals,
  type Invocation,
  UsageError,
} from "../command/command.ts";
import { ownerFlags, ownerOf, principalPositional, readValue, valueFlags } from "./credential-owner.ts";

const flags = defineFlags({
  ...ownerFlags,
  key: { type: "string", value: "NAME", summary: "Name of the credential, as templates write it" },
  ...valueFlags,
});
const positionals = definePositionals([principalPositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Add a credential, or replace it, without reading the others",
  details:
    "Seals the value to the key of the principal's machine and to the escrow keys. The machine gives it to the running\nproxy. The agent itself never sees it. Without --stdin and --from-file, asks for the value.",
  positionals,
  flags,
  examples: [
    "bureau credential provision agent/demo --key API_KEY",
    "pass show api-key | bureau credential provision agent/demo --key API_KEY --stdin",
  ],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const { key } = invocation.flags;
  if (key === undefined)
    throw new UsageError(
      "No key given",
      `bureau credential provision ${invocation.args.principal} --key API_KEY`,
    );
  const owner = ownerOf(invocation);
  const name = principalNameOf(owner.principal);
  const value = await readValue(key, invocation.flags);
  await runStep(
    terminal,
    `Sealing ${key} for ${owner.machine}`,
    () => provisionKeys(owner, { [key]: value }, invocation.flags["escrow-key"]),
    () => `${name} has ${key}`,
  );
  if (invocation.flags.json) terminal.json({ ok: true, principal: name, key, machine: owner.machine });
}
