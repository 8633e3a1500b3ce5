/** What `status` on observe.sock answers: the machine's own state above its principals'. */
import { version } from "@bureau/kit/version";
import type { FleetCache } from "@bureau/schema/events";
import type { MachineReport } from "@bureau/schema/observe-wire";
import type { UserId } from "@bureau/schema/refs";
import type { DaemonConfig } from "./daemon-config.ts";
import type { ConnectionState } from "./machine-connection.ts";
import type { ReconcilerView } from "./reconcile/reconciler.ts";

/** The state at the time of the request. */
type Moment = {
  readonly connection: ConnectionState;
  readonly view: ReconcilerView;
  readonly fleetCache: FleetCache | undefined;
  /** Of the configuration. */
  readonly faults: readonly string[];
};

export function machineReport(
  config: DaemonConfig,
  machine: UserId,
  startedAt: number,
  { connection, view, fleetCache, faults }: Moment,
): MachineReport {
  const away = view.launcherAway;
  const state = connection.kind === "online" && away !== undefined ? "disconnected" : connection.kind;
  const reason = connection.reason ?? away;
  return {
    ok: true,
    machine: {
      name: config.machine,
      user_id: machine,
      state,
      ...(reason === undefined || state === "online" ? {} : { reason }),
      fleet: config.fleet,
      version,
      ...(view.limits === undefined ? {} : { limits: view.limits }),
    },
    daemon: { pid: process.pid, started_at: startedAt },
    ...(fleetCache === undefined
      ? {}
      : { fleet_cache: { url: fleetCache.url, public_keys: fleetCache.public_keys } }),
    ...(view.configSentAt === undefined ? {} : { config_sent_at: view.configSentAt }),
    ...(faults.length === 0 ? {} : { config_faults: [...faults] }),
    principals: [...view.reports].sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
}
