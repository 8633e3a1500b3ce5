/** Whether the daemon has found its work, and the line on it that `systemctl status` shows. */
import { subsystem } from "../assembly/subsystem.ts";
import type { DesiredSource } from "../desired/desired-source.ts";
import type { ConnectionState, MachineConnection } from "../machine-connection.ts";
import type { Reconciler } from "../reconcile/reconciler.ts";

type Needs = {
  readonly desired: DesiredSource;
  readonly reconcile: Reconciler;
  readonly connection: MachineConnection;
};

export type Readiness = {
  /**
   * Resolves with a status line when the first plan is made, the homeserver turned out to be unreachable, or the machine
   * has no configuration: a longer wait would say nothing more.
   */
  readonly ready: Promise<string>;
};

export const readiness = subsystem({
  name: "readiness",
  needs: { desired: true, reconcile: true, connection: true },
  start({ desired, reconcile, connection }: Needs, { config, session, hub, onStatus }) {
    const inSync = `${config.machine}: in sync with ${session.homeserver}`;
    const away = (reason = ""): string => `${config.machine}: the homeserver is away: ${reason}`;
    const lineOf = ({ kind, reason }: ConnectionState): string => (kind === "online" ? inSync : away(reason));
    hub.on("connection.changed", (state) => onStatus(lineOf(state)));
    const ready = Promise.race([
      reconcile.hasPlanned.then(() => inSync),
      connection.foundAway.then(away),
      desired.foundUnconfigured.then(
        (fault) => `${config.machine}: in sync, without a configuration: ${fault}`,
      ),
    ]);
    const part: Readiness = { ready };
    return { part };
  },
});
