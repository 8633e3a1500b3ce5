/** Warns of events that do not count. */
import type { Steps } from "@bureau/kit/run-step";
import type { OnIgnored } from "@bureau/matrix/room-state";

/** A line for each event that was left out because its sender may not write that type. */
export const warnOf =
  (steps: Pick<Steps, "say">): OnIgnored =>
  (sentence) =>
    steps.say(`warning: ${sentence}`);
