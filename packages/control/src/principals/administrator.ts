/**
 * The administrator of a homeserver that Bureau set up: an account whose password follows from the registration token
 * (wire facts, section 9.13), and what its credential file holds (section 9.4).
 */
import { type Granted, login, type Registration, registerWithToken } from "@bureau/matrix/auth";
import { isRevoked } from "@bureau/matrix/matrix-error";
import type { Fetch } from "@bureau/matrix/request";
import type { OnIgnored } from "@bureau/matrix/room-state";
import { MatrixSession } from "@bureau/matrix/session";
import { adminPasswordText, principalPasswordText } from "@bureau/schema/derived-passwords";
import { localpartOf, type PrincipalLocalpart, parseUserId, type RoomId } from "@bureau/schema/refs";
import { sha256Hex } from "../digest.ts";

export const ADMIN_NAME = "bureau-admin";

/** Rooms of a namespace that a credential file may name. */
export type CredentialRoom = "space" | "system" | "template" | "pipeline" | "artifact" | "dev";

/** `adminToken` and `registrationToken` are secrets. */
export type Credentials = {
  readonly homeserver: string;
  readonly adminUser: string;
  readonly adminToken: string;
  readonly registrationToken: string;
  /** The rooms of the namespace, for other programs that read the file; `matrix setup` writes them. */
  readonly rooms?: Readonly<Partial<Record<CredentialRoom, RoomId>>>;
};

/** Where an administrator's credentials are kept: a 0600 file of the CLI, say. */
export type CredentialStore = {
  read(): Credentials | undefined;
  write(credentials: Credentials): void;
};

const adminPassword = (registrationToken: string): string => sha256Hex(adminPasswordText(registrationToken));

/**
 * The password of an account that an administrator made for a principal. It follows from the registration token: who
 * holds that token can log in as the principal again; others cannot.
 */
export const principalPassword = (principal: PrincipalLocalpart, registrationToken: string): string =>
  sha256Hex(principalPasswordText(principal, registrationToken));

/**
 * A session of the administrator: the stored one while the homeserver accepts it, else a new one, which is stored.
 * @throws MatrixError `forbidden` or `unauthorized` when the registration token or the account's password is not accepted
 */
export async function ensureAdministrator(options: {
  readonly homeserver: string;
  readonly fetch: Fetch;
  readonly registrationToken: string;
  readonly store: CredentialStore;
  readonly username?: string;
  /** Called once for each event read that does not count. */
  readonly onIgnored?: OnIgnored;
}): Promise<{ session: MatrixSession; credentials: Credentials }> {
  const { homeserver, fetch, registrationToken, store, username = ADMIN_NAME } = options;
  const kept = store.read();
  const isSame = kept?.homeserver === homeserver && localpartOf(parseUserId(kept.adminUser)) === username;
  if (kept !== undefined && isSame) {
    const session = sessionOf(kept, options);
    try {
      await session.whoami();
      return { session, credentials: kept };
    } catch (error) {
      if (!isRevoked(error)) throw error;
    }
  }
  const granted = await registerOrLogin({
    homeserver,
    fetch,
    registrationToken,
    username,
    password: adminPassword(registrationToken),
  });
  const credentials: Credentials = {
    homeserver,
    adminUser: granted.userId,
    adminToken: granted.token,
    registrationToken,
  };
  store.write(credentials);
  return { session: sessionOf(credentials, options), credentials };
}

/** An account, and what opens it. */
export type AccountOptions = {
  readonly homeserver: string;
  readonly fetch: Fetch;
  readonly registrationToken: string;
  readonly username: string;
  readonly password: string;
};

/** The answer to an account that exists is `inUse`. */
export const registerAccount = (options: AccountOptions): Promise<Registration> =>
  registerWithToken({ ...options, deviceName: "bureau" });

export const logInTo = ({ username, registrationToken: _, ...options }: AccountOptions): Promise<Granted> =>
  login({ ...options, user: username, deviceName: "bureau" });

/** Registers an account, or logs in to it when it exists with that password. */
async function registerOrLogin(options: AccountOptions): Promise<Granted> {
  const registered = await registerAccount(options);
  return registered.inUse ? await logInTo(options) : registered;
}

const sessionOf = (
  credentials: Credentials,
  { fetch, onIgnored }: { readonly fetch: Fetch; readonly onIgnored?: OnIgnored },
): MatrixSession =>
  new MatrixSession({
    ...(onIgnored === undefined ? {} : { onIgnored }),
    homeserver: credentials.homeserver,
    fetch,
    userId: parseUserId(credentials.adminUser),
    token: credentials.adminToken,
  });
