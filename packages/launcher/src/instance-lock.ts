/** One launcher a state folder: the lock is held by an open file for the process's life, so a crash releases it. */
import { join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { type FileLock, tryFileLock } from "@bureau/kit/file-lock";
import { type Layout, makePrivateDir } from "@bureau/kit/layout";

/** @throws BureauError `conflict` when another launcher holds it */
export function takeInstanceLock(layout: Layout): FileLock {
  makePrivateDir(layout.stateDir);
  const lock = tryFileLock(join(layout.stateDir, "launcher.lock"));
  if (lock !== undefined) return lock;
  throw new BureauError(
    "conflict",
    `Cannot start: another launcher uses the state folder "${layout.stateDir}"`,
    {
      hint: "stop it first, or give this one its own --state-dir and --run-dir",
    },
  );
}
