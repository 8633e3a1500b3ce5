/** What the commands about one principal's credentials share: whose they are, and the value as the operator gives it. */
import type { CredentialOwner } from "@bureau/control/credentials/credential-keys";
import { readNamedSecret } from "@bureau/os/named-file";
import { takeTurn } from "@bureau/os/turn";
import { askSecret } from "../command/ask-password.ts";
import { defineFlags, type FlagValues } from "../command/command.ts";
import {
  type FleetChoice,
  machineOf,
  openSession,
  principalOf,
  type SessionChoice,
} from "../command/operator.ts";
import { escrowFlag, jsonFlag, machineFlag, sessionFlags } from "../command/shared-flags.ts";

export const ownerFlags = defineFlags({ ...sessionFlags, ...jsonFlag, ...machineFlag });

export const valueFlags = defineFlags({
  stdin: { type: "boolean", excludes: ["from-file"], summary: "Read the value from standard input" },
  "from-file": { type: "string", value: "PATH", summary: "Read the value from a file" },
  ...escrowFlag,
});

export const principalPositional = {
  name: "principal",
  summary: "Whose: NAME, agent/NAME or service/NAME",
} as const;

type OwnerChoice = SessionChoice &
  FleetChoice & {
    readonly args: { readonly principal: string };
    readonly flags: FlagValues<typeof ownerFlags>;
  };

export function ownerOf(invocation: OwnerChoice): CredentialOwner {
  const machine = machineOf(invocation, invocation.flags.machine);
  const principal = principalOf(machine, invocation.args.principal);
  return { session: openSession(invocation), takeTurn, machine, principal };
}

/** The value of a key: from a file or standard input, else typed without being shown. Never from an argument. */
export async function readValue(name: string, flags: FlagValues<typeof valueFlags>): Promise<string> {
  const file = flags.stdin ? "-" : flags["from-file"];
  if (file !== undefined) return readNamedSecret(file, `the credential ${name} in`);
  return await askSecret({
    what: `the value of "${name}"`,
    prompt: name,
    hint: "--stdin, or --from-file PATH",
  });
}
