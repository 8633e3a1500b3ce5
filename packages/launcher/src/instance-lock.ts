/** One launcher a state folder: the lock is held by an open file for the process's life, so a crash releases it. */
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { type Layout, makePrivateDir } from "@bureau/kit/layout";
import { tryLock } from "@bureau/kit/posix";

/** @throws BureauError `conflict` when another launcher holds it */
export function takeInstanceLock(layout: Layout): Disposable {
  makePrivateDir(layout.stateDir);
  const path = join(layout.stateDir, "launcher.lock");
  const fd = openSync(path, "a", 0o600);
  if (!tryLock(fd)) {
    closeSync(fd);
    throw new BureauError(
      "conflict",
      `Cannot start: another launcher uses the state folder "${layout.stateDir}"`,
      {
        hint: "stop it first, or give this one its own --state-dir and --run-dir",
      },
    );
  }
  return { [Symbol.dispose]: () => closeSync(fd) };
}
