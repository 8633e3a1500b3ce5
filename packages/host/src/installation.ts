/**
 * The Bureau on this host that a command is about: a rootless instance, or the system's.
 *
 * A folder that was named (`--home`, `BUREAU_HOME`) is meant; otherwise a host that is a machine of a fleet stands for
 * itself, before an instance somebody once tried in the usual folder.
 */
import { BureauError } from "@bureau/kit/errors";
import { type Layout, systemLayout } from "@bureau/kit/layout";
import { machineConfPath, readMachineConf } from "@bureau/kit/machine-conf";
import type { FleetLocalpart, MachineLocalpart, ServerName } from "@bureau/schema/refs";
import { type Invocation, stringFlag } from "../command/command.ts";
import { findInstance, type Instance, layoutFor, requireInstance } from "./instance.ts";

/** Who this host is and where its sockets are, in either kind. */
type HostMachine = {
  readonly layout: Layout;
  readonly homeserverUrl: string;
  readonly serverName: ServerName;
  readonly fleet: FleetLocalpart;
  readonly machine: MachineLocalpart;
};

export type Installation =
  | (HostMachine & { readonly kind: "system" })
  | (HostMachine & { readonly kind: "rootless"; readonly instance: Instance });

/**
 * Undefined when there is none.
 * @throws BureauError `invalid-input` when its file cannot be read, `not-found` when `--home` names a folder without one
 */
export function findInstallation(invocation: Pick<Invocation, "flags" | "env">): Installation | undefined {
  const home = stringFlag(invocation, "home");
  const named = home !== undefined || (invocation.env["BUREAU_HOME"] ?? "") !== "";
  const conf = named ? undefined : readMachineConf(machineConfPath(invocation.env));
  if (conf !== undefined) {
    const { homeserverUrl, serverName, fleet, machine } = conf;
    return { kind: "system", layout: systemLayout, homeserverUrl, serverName, fleet, machine };
  }
  const layout = layoutFor(home, invocation.env);
  const instance = home === undefined ? findInstance(layout) : requireInstance(layout);
  return instance && { kind: "rootless", ...instance, instance };
}

/** The next command when no program answers: on a joined machine, not a second Bureau beside its own. */
export const startHint = (layout: Layout): string =>
  layout.runDir === systemLayout.runDir ? "sudo bureau machine doctor says why" : "bureau up";

/** @throws BureauError `not-found` when there is none */
export function requireInstallation(invocation: Pick<Invocation, "flags" | "env">): Installation {
  const found = findInstallation(invocation);
  if (found !== undefined) return found;
  const { home } = layoutFor(stringFlag(invocation, "home"), invocation.env);
  throw new BureauError("not-found", `There is no Bureau here: neither in "${home}" nor in the system`, {
    hint: "bureau up starts one; bureau machine doctor --fix makes this host a machine of a fleet",
  });
}
