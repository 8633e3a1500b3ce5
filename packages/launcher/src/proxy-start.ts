/** Builds a proxy's configuration from the daemon's request and the credential bundle. */
import { BureauError } from "@bureau/kit/errors";
import { egressOfEnvironment } from "@bureau/os/egress";
import { observeSocket, type SandboxPaths, sandboxPaths } from "@bureau/os/layout";
import { socketOf } from "@bureau/schema/homeserver-address";
import type { LauncherRequest } from "@bureau/schema/launcher-ipc";
import type { ProxyStart } from "@bureau/schema/proxy-wire";
import { aliasOf, type PrincipalName, principalLocalpart, userIdOf } from "@bureau/schema/refs";
import type { CredentialBundle, MachineKey } from "./keys.ts";
import type { LauncherConfig } from "./launcher-config.ts";

export type ProxyGrants = Omit<LauncherRequest<"restart-proxy">, "principal">;

/** Entries of a bundle for the proxy's Matrix session; all others are credentials for upstreams (section 3.6). */
const MATRIX_KEYS = new Set(["MATRIX_TOKEN", "MATRIX_USER_ID", "MATRIX_HOMESERVER_URL"]);

/** Opens the bundle; empty when there is none. @throws BureauError, also for a bundle without a Matrix token */
export async function openBundle(key: MachineKey, sealed: string | undefined): Promise<CredentialBundle> {
  if (sealed === undefined || sealed === "") return {};
  const bundle = await key.unseal(sealed);
  if (!bundle["MATRIX_TOKEN"])
    throw new BureauError("invalid-input", "The credential bundle has no MATRIX_TOKEN", {
      hint: "provision the principal's credentials again",
    });
  return bundle;
}

export function proxyStartOf(
  config: LauncherConfig,
  principal: PrincipalName,
  grants: ProxyGrants,
  bundle: CredentialBundle,
): ProxyStart {
  const paths: SandboxPaths = sandboxPaths(config.layout, config.fleet, principal);
  const credentials = Object.fromEntries(Object.entries(bundle).filter(([name]) => !MATRIX_KEYS.has(name)));
  const user = userIdOf(principalLocalpart(config.fleet, principal), config.serverName);
  const token = bundle["MATRIX_TOKEN"];
  return {
    principal,
    ...(paths.serviceLink === undefined
      ? {}
      : { service: { socket: paths.serviceSocket, root: paths.root } }),
    socket_path: paths.proxySocket,
    admin_socket_path: paths.adminSocket,
    matrix_homeserver_url: homeserverOf(config, bundle),
    ...(token === undefined ? {} : { matrix_token: token }),
    matrix_user_id: bundle["MATRIX_USER_ID"] || user,
    credentials,
    egress: egressOfEnvironment(process.env),
    ...(grants.grants === undefined ? {} : { grants: grants.grants }),
    ...(grants.proxy_services === undefined ? {} : { services: grants.proxy_services }),
    ...(grants.egress === undefined || grants.egress === null || grants.egress.length === 0
      ? {}
      : { tunnel: { socket: paths.egressSocket, hosts: grants.egress } }),
    fleet: aliasOf(config.fleet, config.serverName),
    machine: userIdOf(config.machine, config.serverName),
    observe_socket: observeSocket(config.layout),
  };
}

/**
 * The bundle has the homeserver's URL from its writer's view. A machine whose homeserver listens on a socket of this host
 * uses that socket instead: every principal of the machine is on that homeserver.
 */
const homeserverOf = (config: LauncherConfig, bundle: CredentialBundle): string =>
  socketOf(config.homeserverUrl) === undefined
    ? bundle["MATRIX_HOMESERVER_URL"] || config.homeserverUrl
    : config.homeserverUrl;
