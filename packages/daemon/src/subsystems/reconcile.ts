/** The loop that makes the machine what its rooms say it should be. */
import { daemonStateFile, specHistoryDir } from "@bureau/os/layout";
import { subsystem } from "../assembly/subsystem.ts";
import type { DesiredSource } from "../desired/desired-source.ts";
import type { HealthMonitor } from "../health/health-monitor.ts";
import { Invitations } from "../reconcile/invitations.ts";
import { planView, stateView } from "../reconcile/plan-view.ts";
import { completionFile, ReconcileState } from "../reconcile/reconcile-state.ts";
import { Reconciler } from "../reconcile/reconciler.ts";
import { historyFiles, SpecHistory } from "../reconcile/spec-history.ts";
import { PAUSE_MS_MAX, tooBusy } from "../upgrade/become.ts";
import type { LauncherPart } from "./launcher.ts";
import type { Messages } from "./messages.ts";
import type { Rooms } from "./rooms.ts";
import type { Services } from "./services.ts";

type Needs = {
  readonly messages: Messages;
  readonly rooms: Rooms;
  readonly desired: DesiredSource;
  readonly launcher: LauncherPart;
  readonly health: HealthMonitor;
  readonly services: Services;
};

export const reconcile = subsystem({
  name: "reconcile",
  needs: { messages: true, rooms: true, desired: true, launcher: true, health: true, services: true },
  start({ messages, rooms, desired, launcher, health, services }: Needs, context) {
    const { config, session, userOf, hub, clock, random, log } = context;
    const state = new ReconcileState(completionFile(daemonStateFile(config.layout)));
    const history = new SpecHistory(historyFiles(specHistoryDir(config.layout)), log);
    const invitations = new Invitations({ session, rooms: rooms.joined, clock, log });
    const reconciler = new Reconciler({
      launcher: launcher.client,
      proxies: launcher.proxies,
      state,
      history,
      health,
      desired: () => desired.current(),
      notify: messages.post,
      userOf,
      graceMs: config.drainGraceMs,
      beforeStart: (principal, sandbox) => invitations.send(principal, sandbox),
      servicesFor: ({ account, userId }, sandbox) => services.access.servicesFor(account, userId, sandbox),
      onPass: () => hub.emit("reconcile.passed"),
      onGone: () => hub.emit("sandbox.gone"),
      onDrained: (decommission, stopped) => hub.emit("machine.drained", { decommission, stopped }),
      onRemoval: (name) => hub.emit("sandbox.removing", name),
      clock,
      random,
      log,
    });
    for (const topic of ["rooms.changed", "rooms.searched", "health.changed"] as const)
      hub.on(topic, () => reconciler.mark());
    return {
      part: reconciler,
      loops: [(signal) => reconciler.run(signal)],
      views: {
        plan: () => (reconciler.lastPlan === undefined ? {} : planView(reconciler.lastPlan)),
        state: () => ({ ...reconciler.status, principals: stateView(state, history) }),
      },
      handOver: {
        pause: async () => ((await reconciler.pause(PAUSE_MS_MAX)) ? undefined : tooBusy),
        resume: () => reconciler.resume(),
      },
    };
  },
});
