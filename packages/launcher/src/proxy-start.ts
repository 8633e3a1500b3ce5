/** What a proxy is told, made from what the daemon asks for and what the credential bundle holds. */

import { BureauError } from "@bureau/kit/errors";
import { egressOfEnvironment } from "@bureau/os/egress";
import { type SandboxPaths, sandboxPaths } from "@bureau/os/layout";
import { socketOf } from "@bureau/schema/homeserver-address";
import type { LauncherRequest } from "@bureau/schema/launcher-ipc";
import type { ProxyStart } from "@bureau/schema/proxy-wire";
import { aliasOf, type PrincipalName, principalLocalpart, userIdOf } from "@bureau/schema/refs";
import type { CredentialBundle, MachineKey } from "./keys.ts";
import type { LauncherConfig } from "./launcher-config.ts";

export type ProxyGrants = Omit<LauncherRequest<"restart-proxy">, "principal">;

/** Bundle entries that are the proxy's Matrix session and not credentials of services (section 3.6). */
const MATRIX_KEYS = new Set(["MATRIX_TOKEN", "MATRIX_USER_ID", "MATRIX_HOMESERVER_URL"]);

/** Opens the bundle; empty when none was given. @throws BureauError; one without a Matrix token is refused */
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
    fleet: aliasOf(config.fleet, config.serverName),
    machine: userIdOf(config.machine, config.serverName),
  };
}

/**
 * The bundle names the homeserver as its writer reaches it. A machine whose homeserver answers on a socket of this host
 * knows better: every principal of it is on that homeserver, and no port may stand in for the socket.
 */
const homeserverOf = (config: LauncherConfig, bundle: CredentialBundle): string =>
  socketOf(config.homeserverUrl) === undefined
    ? bundle["MATRIX_HOMESERVER_URL"] || config.homeserverUrl
    : config.homeserverUrl;
