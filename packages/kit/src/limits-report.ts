/** How far resource limits of agents are enforced, in a sentence. */
import type { LimitsFact } from "@bureau/schema/launcher-ipc";

const meanings: Record<LimitsFact["level"], string> = {
  enforced: "memory, processes and processor are limited",
  partly: "some limits are not enforced",
  grouped: "limits are not enforced; a sandbox is still killed as a whole",
  none: "limits are not enforced",
};

export const describeLimits = ({ level, reason }: LimitsFact): string =>
  reason === undefined ? meanings[level] : `${meanings[level]} (${reason})`;
