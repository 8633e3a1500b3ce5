/** Builds a proxy's configuration from the daemon's request and the credential bundle. */
import { BureauError } from "@bureau/kit/errors";
import { egressOfEnvironment } from "@bureau/os/egress";
import { observeSocket, type SandboxPaths, sandboxPaths } from "@bureau/os/layout";
import { socketOf } from "@bureau/schema/homeserver-address";
import type { launcherRequests } from "@bureau/schema/launcher-ipc";
import type { ProxyStart } from "@bureau/schema/proxy-wire";
import { aliasOf, type PrincipalName, principalLocalpart, userIdOf } from "@bureau/schema/refs";
import type { InferOutput } from "valibot";
import type { CredentialBundle, MachineKey } from "./keys.ts";
import type { LauncherConfig } from "./launcher-config.ts";

export type ProxyGrants = Omit<
  InferOutput<(typeof launcherRequests)["restart-proxy"]>,
  "principal" | "spec_digest"
>;

/** Entries of a bundle for the proxy's Matrix session; all others are credentials for upstreams (section 3.6). */
const MATRIX_KEYS = new Set(["MATRIX_TOKEN", "MATRIX_USER_ID", "MATRIX_HOMESERVER_URL"]);

/**
 * Opens the bundle and the keys beside it; empty when there is no bundle.
 * @throws BureauError, also for a bundle without a Matrix token
 */
export async function openBundle(
  key: Pick<MachineKey, "unseal">,
  sealed: Pick<ProxyGrants, "encrypted_credentials" | "credential_keys">,
): Promise<CredentialBundle> {
  const { encrypted_credentials: whole, credential_keys: keys } = sealed;
  if (whole === undefined || whole === "") return {};
  const bundle = withKeys(await key.unseal(whole), await openKeys(key, Object.entries(keys ?? {})));
  if (!bundle["MATRIX_TOKEN"])
    throw new BureauError("invalid-input", "The credential bundle has no MATRIX_TOKEN", {
      hint: "provision the principal's credentials again",
    });
  return bundle;
}

/** Each file holds the one key that it was provisioned as: a ciphertext under another name is refused. */
const openKeys = (
  key: Pick<MachineKey, "unseal">,
  sealed: readonly (readonly [name: string, ciphertext: string])[],
): Promise<(readonly [name: string, value: string | undefined])[]> =>
  Promise.all(
    sealed.map(async ([name, ciphertext]) => {
      if (ciphertext === "") return [name, undefined] as const;
      const entries = Object.entries(await key.unseal(ciphertext));
      const only = entries.length === 1 ? entries[0] : undefined;
      if (only?.[0] !== name)
        throw new BureauError("invalid-input", `The sealed credential "${name}" holds other keys`, {
          hint: `provision "${name}" again`,
        });
      return only;
    }),
  );

/** The bundle with these keys in place of its own; without those that have no value. */
function withKeys(
  bundle: CredentialBundle,
  keys: readonly (readonly [name: string, value: string | undefined])[],
): CredentialBundle {
  const merged = new Map<string, string | undefined>([...Object.entries(bundle), ...keys]);
  return Object.fromEntries(
    [...merged].flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const])),
  );
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
