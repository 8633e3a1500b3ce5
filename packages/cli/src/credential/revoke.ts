/** `bureau credential revoke`: takes one credential, or all of them, from a principal. */
import { revokeCredentials, revokeKey } from "@bureau/control/credentials/credential-keys";
import { runStep } from "@bureau/kit/run-step";
import { principalNameOf } from "@bureau/schema/refs";
import {
  defineCommand,
  defineFlags,
  definePositionals,
  type Invocation,
  UsageError,
} from "../command/command.ts";
import { accountKeysIfAtHand } from "../command/operator.ts";
import { ownerFlags, ownerOf, principalPositional } from "./credential-owner.ts";

const flags = defineFlags({
  ...ownerFlags,
  key: {
    type: "string",
    value: "NAME",
    summary: "Revoke this one; the agent keeps running",
    excludes: ["all"],
  },
  all: { type: "boolean", summary: "Revoke all, with its Matrix session; its machine stops it" },
  reason: { type: "string", value: "TEXT", summary: "Recorded in the revocation", needs: ["all"] },
});
const positionals = definePositionals([principalPositional]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Take one credential, or all of them, from a principal",
  details:
    "Its proxy loses the credential. A copy that was made before keeps working: revoke the value where it was issued, too.",
  positionals,
  flags,
  examples: [
    "bureau credential revoke agent/demo --key API_KEY",
    "bureau credential revoke agent/demo --all --reason 'laptop stolen'",
  ],
  run,
});

async function run(invocation: Asked): Promise<number> {
  const { terminal } = invocation;
  const { key, all, reason, json } = invocation.flags;
  if (key === undefined && !all)
    throw new UsageError(
      "Neither --key nor --all given",
      `bureau credential revoke ${invocation.args.principal} --key API_KEY, or --all`,
    );
  const owner = ownerOf(invocation);
  const name = principalNameOf(owner.principal);
  const shown = { principal: name, machine: owner.machine };
  if (key !== undefined) {
    await runStep(
      terminal,
      `Revoking ${key} of ${name}`,
      () => revokeKey(owner, key),
      () => `${name} no longer has ${key}`,
    );
    if (json) terminal.json({ ok: true, ...shown, key });
    return 0;
  }
  const ended = await runStep(
    terminal,
    `Revoking the credentials of ${name}`,
    () => revokeCredentials(owner, reason, accountKeysIfAtHand(invocation)),
    () => `${name} has no credentials`,
  );
  if (json) terminal.json({ ok: ended, ...shown, sessions_ended: ended });
  if (!ended)
    terminal.say(
      "Its Matrix session is still valid: ending it needs --credential-file of the administrator who created it",
    );
  return ended ? 0 : 1;
}
