/**
 * Keeps the services of running sandboxes, and what their proxies tell of services, up to date: after each pass of the
 * reconciler, and when a token or a grant ends.
 */
import { aborted } from "@bureau/os/lifecycle";
import { subsystem } from "../assembly/subsystem.ts";
import type { DesiredSource } from "../desired/desired-source.ts";
import type { Reconciler } from "../reconcile/reconciler.ts";
import type { ServiceAccess } from "../services/service-access.ts";
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
    /** Each has its own loop: a proxy that hangs must not hold up a token. */
    const keep = (part: Pick<ServiceAccess, "refresh">) => {
      const wakeup = new Wakeup(clock);
      hub.on("reconcile.passed", () => wakeup.mark());
      return async (signal: AbortSignal): Promise<void> => {
        signal.addEventListener("abort", () => wakeup.mark(), { once: true });
        await Promise.race([reconcile.hasPlanned, aborted(signal)]);
        while (!signal.aborted) {
          const waitMs = await part.refresh(desired.latest, reconcile.view.sandboxes);
          if (signal.aborted) return;
          await wakeup.wait(clock.monotonic() + waitMs);
        }
      };
    };
    return { part: undefined, loops: [keep(services.access), keep(services.directory)] };
  },
});
