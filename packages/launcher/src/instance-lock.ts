/** Allows one launcher for each state folder. An open file holds the lock, so that a crash releases it. */
import { BureauError } from "@bureau/kit/errors";
import { type FileLock, inheritedFileLock, tryFileLock } from "@bureau/os/file-lock";
import { type Layout, launcherLockFile, makePrivateDir } from "@bureau/os/layout";

/**
 * The descriptor that holds the lock. The previous build in the same process passes it on, or the launcher that runs first
 * boot.
 */
export const LOCK_FD = "BUREAU_LOCK_FD";

/** @throws BureauError `conflict` when another launcher holds it */
export function takeInstanceLock(layout: Layout): FileLock {
  makePrivateDir(layout.stateDir);
  const path = launcherLockFile(layout);
  const left = process.env[LOCK_FD];
  delete process.env[LOCK_FD];
  const lock = (left === undefined ? undefined : inheritedFileLock(path, Number(left))) ?? tryFileLock(path);
  if (lock !== undefined) return lock;
  throw new BureauError(
    "conflict",
    `Cannot start: another launcher uses the state folder "${layout.stateDir}"`,
    {
      hint: "stop it first, or give this one its own --state-dir and --run-dir",
    },
  );
}
