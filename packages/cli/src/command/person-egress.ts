/**
 * How the commands of a person reach the network: as our own variables say, else the proxy variables of the shell, else
 * as the machine that this host is.
 */
import {
  configureEgress,
  type EgressSettings,
  egressKeys,
  noEgressSettings,
  takeProxyVariables,
} from "@bureau/os/egress";
import { machineConfPath, readMachineConf } from "@bureau/os/machine-conf";

export function useEgressOfPerson(env: Record<string, string | undefined>): void {
  const shell = takeProxyVariables(env);
  const host = egressOfHost(env);
  configureEgress({
    httpsProxy: env[egressKeys.httpsProxy] ?? (shell.httpsProxy || host.httpsProxy),
    noProxy: env[egressKeys.noProxy] ?? (shell.noProxy || host.noProxy),
    caCerts: env[egressKeys.caCerts] ?? host.caCerts,
  });
}

/** Commands about this machine report a file that cannot be read; this one ignores it. */
function egressOfHost(env: Readonly<Record<string, string | undefined>>): EgressSettings {
  try {
    return readMachineConf(machineConfPath(env)) ?? noEgressSettings;
  } catch {
    return noEgressSettings;
  }
}
