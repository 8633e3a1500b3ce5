/** Tells a person of events that do not count. */
import type { Steps } from "@bureau/kit/run-step";
import type { OnIgnored } from "@bureau/matrix/room-state";

/** Says of an event that does not count that it was left out. */
export const warnOf =
  (steps: Pick<Steps, "say">): OnIgnored =>
  (sentence) =>
    steps.say(`warning: ${sentence}`);
