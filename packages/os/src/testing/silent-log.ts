/** A log that discards every line, for tests that do not check it. */
import type { Log } from "@bureau/kit/log";
import { createLog } from "../log.ts";

export const silentLog: Log = createLog("silent", { write: () => {} });
