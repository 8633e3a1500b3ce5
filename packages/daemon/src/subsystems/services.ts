/** The services that sandboxes of this machine require: sockets, tokens, revocations. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { isBureauError } from "@bureau/kit/errors";
import { checkToken } from "@bureau/kit/signed-message";
import { callCbor } from "@bureau/os/cbor-client";
import { type Ed25519Key, ed25519Verifier } from "@bureau/os/ed25519";
import { sandboxPaths } from "@bureau/os/layout";
import type { PrincipalName } from "@bureau/schema/refs";
import type { RevokedToken } from "@bureau/schema/service-token";
import { unknown } from "valibot";
import { subsystem } from "../assembly/subsystem.ts";
import type { DesiredSource } from "../desired/desired-source.ts";
import { resolveServices, type ServicesOutcome } from "../desired/resolve-services.ts";
import { directoryEntries } from "../services/directory-entries.ts";
import { DirectoryPush } from "../services/directory-push.ts";
import { ServiceAccess } from "../services/service-access.ts";
import { TokenMint } from "../services/token-mint.ts";
import type { LauncherPart } from "./launcher.ts";
import type { Rooms } from "./rooms.ts";

/** For one delivery: a service that hangs must not hold up the tokens of others. */
const REVOKE_MS_MAX = 2_000;
const suffix = ".token";

export type Services = {
  readonly mint: TokenMint;
  readonly access: ServiceAccess;
  readonly directory: DirectoryPush;
  /** What answers a role, by the config room and the service directory. */
  readonly resolve: (role: string) => ServicesOutcome;
  readonly socketOf: (provider: PrincipalName) => string;
};

type Needs = {
  readonly signingKey: Ed25519Key;
  readonly desired: DesiredSource;
  readonly launcher: LauncherPart;
  readonly rooms: Rooms;
};

export const services = subsystem({
  name: "services",
  needs: { signingKey: true, desired: true, launcher: true, rooms: true },
  start({ signingKey, desired, launcher, rooms }: Needs, { config, userId, clock, log }) {
    const pathsOf = (account: PrincipalName) => sandboxPaths(config.layout, config.fleet, account);
    // The socket's own path may be longer than an address.
    const socketOf = (provider: PrincipalName) =>
      pathsOf(provider).serviceLink ?? pathsOf(provider).serviceSocket;
    const mint = new TokenMint({
      key: signingKey,
      machine: userId,
      server: config.serverName,
      clock,
      policyOf: (user) => desired.latest?.authorization.policyOf(user) ?? {},
    });
    const verify = ed25519Verifier(signingKey.publicKey);
    const access = new ServiceAccess({
      mint,
      launcher: launcher.client,
      clock,
      log,
      statSocket: (provider) => statSync(pathsOf(provider).serviceSocket, { throwIfNoEntry: false }),
      tokensLeftIn(account) {
        const left = new Map<string, RevokedToken>();
        const folder = pathsOf(account).serviceTokens;
        for (const name of filesIn(folder)) {
          const role = name.slice(0, -suffix.length);
          try {
            const check = { verify, audience: role, nowMs: clock.now(), isRevoked: () => false };
            left.set(role, checkToken(readFileSync(join(folder, name)), check));
          } catch (error) {
            // It is not valid any more.
            if (!isBureauError(error)) throw error;
          }
        }
        return left;
      },
      revoke: (provider, revocation) =>
        callCbor(pathsOf(provider).serviceLink ?? "", { action: "revoke-tokens", revocation }, unknown(), {
          peer: `service "${provider}"`,
          timeoutMs: REVOKE_MS_MAX,
        }).then(() => undefined),
    });
    const machine = { user: userId, fleet: config.fleet };
    const directoryRoom = () => {
      const room = rooms.joined()?.fleetServices;
      return room === undefined ? undefined : rooms.states.room(room);
    };
    const directory = new DirectoryPush({
      proxies: launcher.proxies,
      machine: userId,
      now: () => clock.now(),
      entries: () => directoryEntries(directoryRoom()),
      socketOf,
      log,
    });
    const part: Services = {
      mint,
      access,
      directory,
      socketOf,
      resolve(role) {
        return resolveServices(
          [role],
          {
            workspace: undefined,
            config: rooms.config(),
            directory: directoryRoom(),
          },
          machine,
        );
      },
    };
    return { part, views: { state: () => access.view } };
  },
});

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => name.endsWith(suffix));
  } catch {
    return [];
  }
}
