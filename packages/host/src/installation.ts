/**
 * The installation on this host that a command acts on: a rootless instance, or the system's.
 *
 * A folder that is named (`--home`, `BUREAU_HOME`) wins. Otherwise the system's installation comes before an instance in the
 * usual folder.
 */
import { findInstance, type Instance, layoutFor, requireInstance } from "@bureau/instance/instance";
import { BureauError } from "@bureau/kit/errors";
import { type Layout, systemLayout } from "@bureau/os/layout";
import { machineConfPath, readMachineConf } from "@bureau/os/machine-conf";
import type { FleetLocalpart, MachineLocalpart, ServerName } from "@bureau/schema/refs";

/** Which machine this host is and where its sockets are, in either kind. */
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

type Asked = {
  /** The value of `--home`. */
  readonly home: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
};

/**
 * Undefined when there is no installation.
 * @throws BureauError `invalid-input` when its file cannot be read, `not-found` when `--home` names a folder without one
 */
export function findInstallation({ home, env }: Asked): Installation | undefined {
  const named = home !== undefined || (env["BUREAU_HOME"] ?? "") !== "";
  const conf = named ? undefined : readMachineConf(machineConfPath(env));
  if (conf !== undefined) {
    const { homeserverUrl, serverName, fleet, machine } = conf;
    return { kind: "system", layout: systemLayout, homeserverUrl, serverName, fleet, machine };
  }
  const layout = layoutFor(home, env);
  const instance = home === undefined ? findInstance(layout) : requireInstance(layout);
  return instance && { kind: "rootless", ...instance, instance };
}

/** @throws BureauError `not-found` when there is no installation */
export function requireInstallation(asked: Asked): Installation {
  const found = findInstallation(asked);
  if (found !== undefined) return found;
  const { home } = layoutFor(asked.home, asked.env);
  throw new BureauError(
    "not-found",
    `Cannot find Bureau on this host: neither in "${home}" nor in the system`,
    {
      hint: "bureau up starts one; bureau machine doctor --fix makes this host a machine of a fleet",
    },
  );
}
