/** Creates the upgrader and its publisher from the daemon's parts. */
import type { Runtime } from "@bureau/kit/runtime";
import type { RoomView } from "@bureau/matrix/room-state";
import type { MatrixSession } from "@bureau/matrix/session";
import { readOwnBuild } from "@bureau/os/build";
import { eventTypes, type FleetCache, MachineVersionSchema } from "@bureau/schema/events";
import { stateKeyOf } from "@bureau/schema/refs";
import * as v from "valibot";
import type { DaemonConfig } from "../daemon-config.ts";
import type { EventMessage } from "../event-messages/event-message.ts";
import type { Launcher } from "../launcher/launcher-client.ts";
import { BuildPublisher } from "./build-publisher.ts";
import { openUpgradeHost } from "./upgrade-host.ts";
import { upgradeTimes } from "./upgrade-times.ts";
import { Upgrader, type UpgraderDeps } from "./upgrader.ts";
import { wantedBuild } from "./wanted-build.ts";

export type UpgradeParts = {
  readonly session: MatrixSession;
  readonly launcher: Launcher;
  readonly notify: (message: EventMessage) => void;
  /** The config room, once it is known and synced. */
  readonly view: () => RoomView | undefined;
  /** The fleet's Nix cache. */
  readonly cache: () => FleetCache | undefined;
  readonly isOnline: () => boolean;
  readonly isAway: () => boolean;
  readonly reconciler: UpgraderDeps["reconciler"];
  /** See {@link UpgraderDeps.become}. */
  readonly replace: UpgraderDeps["become"];
};

/** Undefined when this daemon does not run from a build. */
export function openUpgrades(
  config: DaemonConfig,
  runtime: Runtime,
  parts: UpgradeParts,
): { readonly upgrader: Upgrader; readonly publisher: BuildPublisher } | undefined {
  const own = readOwnBuild("bureau-daemon");
  if (own === undefined) return undefined;
  const { session, view } = parts;
  const key = stateKeyOf(session.userId);
  const publisher = new BuildPublisher({ ...runtime, session, content: () => upgrader.content });
  const upgrader: Upgrader = new Upgrader({
    ...runtime,
    own,
    host: openUpgradeHost(config.layout, config.bootLink, runtime.log),
    times: upgradeTimes(),
    launcher: parts.launcher,
    reconciler: parts.reconciler,
    notify: parts.notify,
    become: parts.replace,
    cache: parts.cache,
    isOnline: parts.isOnline,
    isAway: parts.isAway,
    said: () => {
      const parsed = v.safeParse(MachineVersionSchema, view()?.get(eventTypes.machineVersion, key)?.content);
      return parsed.success ? parsed.output : undefined;
    },
    wanted: () => wantedBuild(view(), key),
    isEchoed: () => {
      const sent = publisher.current;
      return sent !== undefined && view()?.get(eventTypes.machineVersion, key)?.eventId === sent;
    },
    changed: () => publisher.mark(),
  });
  return { upgrader, publisher };
}
