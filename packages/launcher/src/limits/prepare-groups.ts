/** Control groups depend on the tmux server: another server may have another delegated folder, or none. */
import { BureauError, messageOf } from "@bureau/kit/errors";
import type { SandboxHost } from "../sandbox/sandbox-host.ts";

/**
 * Finds the delegated folder unless it is known; logs missing limits once, when they change. Starts the tmux server, or
 * waits for it, after it exited. @throws BureauError `unavailable` when none starts
 */
export async function prepareGroups(host: Pick<SandboxHost, "groups" | "tmux" | "log">): Promise<void> {
  const { groups, tmux, log } = host;
  if (groups.isPrepared) return;
  const before = groups.fact;
  const pid = (await tmux.serverPid()) ?? (await nextServer(tmux));
  groups.prepare(pid);
  const { level, reason } = groups.fact;
  if (level === before.level && reason === before.reason) return;
  if (level === "enforced") log.info("limits.enforced", "resource limits are enforced");
  else log.warn("limits.not-enforced", "resource limits are not enforced", { level, reason });
}

async function nextServer(tmux: SandboxHost["tmux"]): Promise<number> {
  try {
    await tmux.ensureServer();
  } catch (error) {
    // The fault is the host's, not that of the program to start.
    throw new BureauError("unavailable", messageOf(error), { cause: error });
  }
  const pid = await tmux.serverPid();
  if (pid === undefined) throw new BureauError("unavailable", "The tmux server exited again");
  return pid;
}
