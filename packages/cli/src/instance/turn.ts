/** Commands of one user on one host take turns at editing what is in Matrix, which has no compare-and-set. */
import { systemClock } from "@bureau/kit/clock";
import { waitForFileLock } from "@bureau/kit/file-lock";
import { userLockFile } from "@bureau/kit/layout";

/** An edit takes milliseconds; whoever holds the lock longer is stuck, and the check after the write is there still. */
const TURN_MS_MAX = 5_000;

export const takeTurn = () => waitForFileLock(userLockFile("config", process.env), TURN_MS_MAX, systemClock);
