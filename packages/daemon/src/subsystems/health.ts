/** How each running principal is. The reconciler says which to watch, and stops it. */
import { subsystem } from "../assembly/subsystem.ts";
import { HealthMonitor } from "../health/health-monitor.ts";
import { openHealthProbe } from "../health/health-probe.ts";

export const health = subsystem({
  name: "health",
  needs: {},
  start(_needs: object, { config, hub, clock, log }) {
    const monitor = new HealthMonitor({
      healthProbe: openHealthProbe(config.layout, config.fleet),
      clock,
      log,
      onChange: () => hub.emit("health.changed"),
    });
    return { part: monitor, views: { state: () => monitor.view() } };
  },
});
