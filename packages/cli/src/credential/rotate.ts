/** `bureau credential rotate`: replaces a credential of a principal, or the token of its Matrix session. */
import { rotateKey, rotateToken } from "@bureau/control/credentials/credential-keys";
import { runStep } from "@bureau/kit/run-step";
import { principalNameOf } from "@bureau/schema/refs";
import {
  defineCommand,
  defineFlags,
  definePositionals,
  type Invocation,
  UsageError,
} from "../command/command.ts";
import { accountKeys } from "../command/operator.ts";
import { ownerFlags, ownerOf, principalPositional, readValue, valueFlags } from "./credential-owner.ts";

const flags = defineFlags({
  ...ownerFlags,
  key: {
    type: "string",
    value: "NAME",
    summary: "The credential (default: the token of its Matrix session)",
  },
  ...valueFlags,
});
const positionals = definePositionals([principalPositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Replace a credential while its agent keeps running",
  details:
    "With --key, replaces a credential that exists. Without it, logs in to the principal's account again and replaces the\ntoken of its Matrix session. The previous token stays valid: bureau credential revoke ends every session.",
  positionals,
  flags,
  examples: ["bureau credential rotate agent/demo --key API_KEY", "bureau credential rotate agent/demo"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const { key, stdin, "from-file": file, "escrow-key": escrow } = invocation.flags;
  if (key === undefined && (stdin || file !== undefined))
    throw new UsageError(
      "A value is given, but no key",
      `bureau credential rotate ${invocation.args.principal} --key API_KEY`,
    );
  const owner = ownerOf(invocation);
  const name = principalNameOf(owner.principal);
  const what = key ?? "the token of its Matrix session";
  const act =
    key === undefined ? () => rotateToken(owner, accountKeys(invocation), escrow) : await replaceKey(key);
  await runStep(terminal, `Replacing ${what} of ${name}`, act, () => `${name} has another value of ${what}`);
  if (invocation.flags.json)
    terminal.json({ ok: true, principal: name, key: key ?? "MATRIX_TOKEN", machine: owner.machine });

  async function replaceKey(one: string): Promise<() => Promise<void>> {
    const value = await readValue(one, invocation.flags);
    return () => rotateKey(owner, one, value, escrow);
  }
}
