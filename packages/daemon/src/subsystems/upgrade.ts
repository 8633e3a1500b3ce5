/** Other builds of the daemon and the launcher, as the config room asks for them. */
import { loopAfter } from "../assembly/loop-after.ts";
import { subsystem } from "../assembly/subsystem.ts";
import type { ConnectionState } from "../machine-connection.ts";
import type { Reconciler } from "../reconcile/reconciler.ts";
import { openUpgrades } from "../upgrade/open-upgrades.ts";
import type { Upgrader } from "../upgrade/upgrader.ts";
import type { LauncherPart } from "./launcher.ts";
import type { Messages } from "./messages.ts";
import type { Rooms } from "./rooms.ts";

type Needs = {
  readonly messages: Messages;
  readonly rooms: Rooms;
  readonly launcher: LauncherPart;
  readonly reconcile: Reconciler;
};

export type Upgrade = {
  /** Undefined when this daemon runs from sources: no build can take its place. */
  readonly upgrader: Upgrader | undefined;
};

export const upgrade = subsystem({
  name: "upgrade",
  needs: { messages: true, rooms: true, launcher: true, reconcile: true },
  start({ messages, rooms, launcher, reconcile }: Needs, context) {
    const { config, session, hub, clock, random, log } = context;
    let connection: ConnectionState = { kind: "starting" };
    hub.on("connection.changed", (state) => {
      connection = state;
    });
    const opened = openUpgrades(
      config,
      { clock, random, log },
      {
        session,
        launcher: launcher.client,
        reconciler: reconcile,
        notify: messages.post,
        view: rooms.config,
        cache: rooms.fleetCache,
        isOnline: () => connection.kind === "online",
        isAway: () => connection.kind === "disconnected",
        replace: context.become,
      },
    );
    const part: Upgrade = { upgrader: opened?.upgrader };
    if (opened === undefined) return { part };
    const { upgrader, publisher } = opened;
    hub.on("rooms.changed", () => upgrader.mark());
    hub.on("sandbox.gone", () => upgrader.mark());
    hub.on("sandbox.removing", (name) => upgrader.removes(name));
    const ready = Promise.all([hub.next("rooms.joined"), upgrader.recalled]);
    return {
      part,
      loops: [
        (signal) => upgrader.run(signal),
        loopAfter(ready, ([rooms], signal) => publisher.run(rooms.config, signal)),
      ],
      views: {
        state: () => ({ ...upgrader.content, onTrial: upgrader.isOnTrial, upgrader: upgrader.debug }),
      },
    };
  },
});
