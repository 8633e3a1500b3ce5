/** A shell on the host that a target names. */
import type { HostShell } from "./host-shell.ts";
import { localShell } from "./local.ts";
import { checkSshOptions, type SshShell, sshShell } from "./ssh.ts";
import type { Target } from "./target.ts";

/** True when ssh may ask a person. */
export const isInteractive = (): boolean => process.stdin.isTTY === true;

/** `options` are ssh's, `KEY=VALUE`. */
export async function openShell(
  target: Target,
  options: readonly string[],
  signal?: AbortSignal,
): Promise<HostShell | SshShell> {
  const aborting = signal === undefined ? {} : { signal };
  checkSshOptions(options);
  if (target.kind === "local") return localShell(aborting);
  return sshShell(target, { options, interactive: isInteractive(), ...aborting });
}
