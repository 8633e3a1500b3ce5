/** The host that a command's first argument names, and no flag beside it that says nothing about such a host. */
import { type Invocation, UsageError } from "../command/command.ts";
import { parseTarget, type Target } from "./target.ts";

/** `pointless` names the flags that say nothing about another host. @throws UsageError */
export function targetArgument(invocation: Invocation, pointless: readonly string[] = []): Target {
  const target = parseTarget(invocation.args[0] ?? "local");
  const isLocal = target.kind === "local";
  const ignored = (isLocal ? ["ssh-option"] : pointless).find((name) => invocation.flags[name] !== undefined);
  if (ignored !== undefined)
    throw new UsageError(
      `--${ignored} does nothing for ${isLocal ? "this machine" : "another machine"}`,
      "omit it",
    );
  return target;
}
