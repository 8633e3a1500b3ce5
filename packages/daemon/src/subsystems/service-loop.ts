/** Keeps the services of running sandboxes up to date, after each pass of the reconciler and before a token expires. */
import { subsystem } from "../assembly/subsystem.ts";
import type { DesiredSource } from "../desired/desired-source.ts";
import type { Reconciler } from "../reconcile/reconciler.ts";
import { Wakeup } from "../wakeup.ts";
import type { Services } from "./services.ts";

type Needs = {
  readonly desired: DesiredSource;
  readonly services: Services;
  readonly reconcile: Reconciler;
};

export const serviceLoop = subsystem({
  name: "serviceLoop",
  needs: { desired: true, services: true, reconcile: true },
  start({ desired, services, reconcile }: Needs, { hub, clock }) {
    const wakeup = new Wakeup(clock);
    hub.on("reconcile.passed", () => wakeup.mark());
    return {
      part: undefined,
      loops: [
        async (signal) => {
          signal.addEventListener("abort", () => wakeup.mark(), { once: true });
          await reconcile.hasPlanned;
          while (!signal.aborted) {
            const waitMs = await services.access.refresh(desired.latest, reconcile.view.sandboxes);
            await wakeup.wait(clock.monotonic() + waitMs);
          }
        },
      ],
    };
  },
});
