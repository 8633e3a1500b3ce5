/** How the machine leaves when it was asked to. */
import { subsystem } from "../assembly/subsystem.ts";
import { Departure } from "../departure.ts";
import type { DesiredSource } from "../desired/desired-source.ts";

export const departure = subsystem({
  name: "departure",
  needs: { desired: true },
  start({ desired }: { desired: DesiredSource }, { session, hub, clock, random, log }) {
    const part = new Departure({
      session,
      stands: ({ request }) => desired.current()?.decommission?.request === request,
      clock,
      random,
      log,
    });
    hub.on("machine.drained", ({ decommission, stopped }) => part.drained(decommission, stopped));
    return { part };
  },
});
