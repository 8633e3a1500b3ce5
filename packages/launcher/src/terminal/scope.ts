/**
 * Finds the systemd scope for a tmux server that the launcher starts: only the service manager can delegate control groups.
 * An ordinary user's launcher uses the user's manager, root's the system's. Without a manager there is no scope.
 */
import { randomBytes } from "node:crypto";
import { existsSync, lstatSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { SCOPE_PREFIX } from "../limits/control-groups.ts";

export type Scope = {
  /** The command prefix of the server's command line. */
  readonly words: readonly string[];
  readonly env: Readonly<Record<string, string>>;
};

/** Users whose manager runs from boot to shutdown (loginctl(1)). */
const LINGERING = "/var/lib/systemd/linger";

/**
 * Undefined without a lasting service manager: a user's manager that exits at logout would end every sandbox.
 */
export function scopeOf(uid: number): Scope | undefined {
  const managed = (manager: readonly string[], env: Readonly<Record<string, string>>): Scope => ({
    words: [
      ...["systemd-run", ...manager, "--scope", "--quiet", "--collect", "-p", "Delegate=yes"],
      ...["--unit", `${SCOPE_PREFIX}${randomBytes(6).toString("hex")}`, "--"],
      // The server and its programs must not get the manager's address.
      ...["env", ...Object.keys(env).flatMap((name) => ["-u", name])],
    ],
    env,
  });
  if (uid === 0) return existsSync("/run/systemd/system") ? managed([], {}) : undefined;
  // By its path, because the environment may be another user's.
  const runtime = `/run/user/${uid}`;
  const isOurs = lstatSync(runtime, { throwIfNoEntry: false })?.uid === uid;
  const stays = existsSync(join(LINGERING, ownName())) && existsSync(join(runtime, "systemd/private"));
  if (!isOurs || !stays) return undefined;
  return managed(["--user"], { XDG_RUNTIME_DIR: runtime });
}

/** A user without an entry in the passwd file has no name, and no manager. */
function ownName(): string {
  try {
    return userInfo().username;
  } catch {
    return "(no name)";
  }
}
