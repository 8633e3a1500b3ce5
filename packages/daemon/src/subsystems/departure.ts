/** How the machine leaves when it was asked to. */
import { subsystem } from "../assembly/subsystem.ts";
import { Departure } from "../departure.ts";
import type { DesiredSource } from "../desired/desired-source.ts";
import type { Audit } from "./audit.ts";

type Needs = { readonly desired: DesiredSource; readonly audit: Audit };

export const departure = subsystem({
  name: "departure",
  needs: { desired: true, audit: true },
  start({ desired, audit }: Needs, { session, hub, clock, random, log }) {
    const part = new Departure({
      session,
      stands: ({ request }) => desired.current()?.decommission?.request === request,
      beforeLeaving: audit.flush,
      clock,
      random,
      log,
    });
    hub.on("machine.drained", ({ decommission, stopped }) => part.drained(decommission, stopped));
    return { part };
  },
});
