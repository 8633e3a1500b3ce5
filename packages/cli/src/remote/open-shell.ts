/** A shell on whatever a target names. */
import { type Invocation, listFlag } from "../command/command.ts";
import type { HostShell } from "./host-shell.ts";
import { localShell } from "./local.ts";
import { checkSshOptions, type SshShell, sshShell } from "./ssh.ts";
import type { Target } from "./target.ts";

/** True when ssh may ask a person. */
export const isInteractive = (): boolean => process.stdin.isTTY === true;

export async function openShell(
  target: Target,
  invocation: Invocation,
  signal?: AbortSignal,
): Promise<HostShell | SshShell> {
  const aborting = signal === undefined ? {} : { signal };
  const options = listFlag(invocation, "ssh-option");
  checkSshOptions(options);
  if (target.kind === "local") return localShell(aborting);
  return sshShell(target, { options, interactive: isInteractive(), ...aborting });
}
