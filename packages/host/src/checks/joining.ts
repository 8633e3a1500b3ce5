/** The actions to join and to join again, shared by several checks. */
import { machineSessionFile } from "@bureau/os/layout";
import { daemonUnit, launcherUnit } from "@bureau/os/unit-names";
import type { Action } from "../resources/registry.ts";
import { unitFiles } from "../units/unit-files.ts";
import type { Remedy } from "./check.ts";
import type { HostView } from "./host-view.ts";

const startAll = unitFiles
  .filter(({ active }) => active)
  .map(({ name }): Action => ({ kind: "start", unit: name }));

export const provisionHint =
  "an administrator makes a bootstrap file (machine provision); then, here: bureau machine doctor --fix --bootstrap-file FILE";

/** The first joining. */
export const join = (host: HostView): Remedy =>
  host.hasBootstrap ? { actions: [{ kind: "join" }, ...startAll] } : { hint: provisionHint };

/** Joining again starts from nothing: neither the old session nor the old key stays. */
export const joinAgain = (host: HostView): Remedy =>
  host.hasBootstrap && host.kind === "system"
    ? {
        actions: [
          { kind: "stop", units: [daemonUnit, launcherUnit] },
          { kind: "remove", path: machineSessionFile(host.layout) },
          { kind: "seal-key" },
          { kind: "join" },
          ...startAll,
        ],
      }
    : { hint: `${provisionHint}; to leave for good: bureau machine uninstall` };
