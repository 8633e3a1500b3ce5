/** What the proxies of this machine refused, on its way to the audit log. */
import { type PrincipalName, parsePrincipalName } from "@bureau/schema/refs";
import { loopAfter } from "../assembly/loop-after.ts";
import { subsystem } from "../assembly/subsystem.ts";
import { RefusalCollector } from "../audit/refusal-collector.ts";
import type { Reconciler } from "../reconcile/reconciler.ts";
import type { Audit } from "./audit.ts";
import type { LauncherPart } from "./launcher.ts";

export type Refusals = {
  /** The proxy of a principal has refused something. */
  readonly collect: (name: PrincipalName) => void;
};

type Needs = { readonly audit: Audit; readonly launcher: LauncherPart; readonly reconcile: Reconciler };

export const refusals = subsystem({
  name: "refusals",
  needs: { audit: true, launcher: true, reconcile: true },
  start({ audit, launcher, reconcile }: Needs, { userOf, log }) {
    const collector = new RefusalCollector({ proxies: launcher.proxies, denied: audit.denied, userOf, log });
    const part: Refusals = { collect: (name) => void collector.collect(name) };
    const looked = reconcile.hasLooked.then(() => true);
    return {
      part,
      loops: [
        // What was refused while no daemon ran.
        loopAfter(looked, async (_, signal) => {
          for (const { principal, state } of reconcile.view.sandboxes)
            if (state === "running" && !signal.aborted)
              await collector.collect(parsePrincipalName(principal));
        }),
      ],
    };
  },
});
