/** Lets commands of one user on one host edit Matrix state one at a time: Matrix has no compare-and-set. */
import { type Clock, systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { waitForFileLock } from "./file-lock.ts";
import { userLockFile } from "./layout.ts";

/** An edit takes milliseconds; of thirty commands at once on a busy homeserver, the last one waits a few seconds. */
const TURN_MS_MAX = 60_000;

/** @throws BureauError `conflict` when the lock stays held: writing without it would undo another command's edit */
export async function takeTurn(
  file = userLockFile("config", process.env),
  timeoutMs = TURN_MS_MAX,
  clock: Clock = systemClock,
): Promise<Disposable> {
  const turn = await waitForFileLock(file, timeoutMs, clock);
  if (turn !== undefined) return turn;
  throw new BureauError("conflict", `Another command has been editing for more than ${timeoutMs / 1000} s`, {
    hint: `run this again when it has ended; it holds the lock "${file}"`,
  });
}
