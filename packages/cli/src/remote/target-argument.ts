/** The host that a command's first argument names; refuses flags that have no effect for such a host. */
import { UsageError } from "../command/command.ts";
import type { SshValues } from "./ssh-flags.ts";
import { parseTarget, type Target } from "./target.ts";

/** @throws UsageError for an ssh option without another machine, and `--home` with one */
export function targetArgument(
  typed: string | undefined,
  flags: SshValues & { readonly home?: string | undefined },
  { withoutHome }: { readonly withoutHome: boolean },
): Target {
  const target = parseTarget(typed ?? "local");
  const refuse = (flag: string, machine: string): never => {
    throw new UsageError(`--${flag} has no effect for ${machine}`, "omit it");
  };
  if (target.kind === "local" && flags["ssh-option"].length > 0) refuse("ssh-option", "this machine");
  if (target.kind !== "local" && withoutHome && flags.home !== undefined) refuse("home", "another machine");
  return target;
}
