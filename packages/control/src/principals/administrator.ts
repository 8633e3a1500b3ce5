/**
 * The administrator of a homeserver that Bureau set up: an account whose password follows from the registration token,
 * and the credential file its session is kept in (wire facts, sections 9.4 and 9.13).
 */
import { createHash } from "node:crypto";
import { BureauError } from "@bureau/kit/errors";
import { type Granted, login, registerWithToken } from "@bureau/matrix/auth";
import { isRevoked } from "@bureau/matrix/matrix-error";
import type { Fetch } from "@bureau/matrix/request";
import type { OnIgnored } from "@bureau/matrix/room-state";
import { MatrixSession } from "@bureau/matrix/session";
import { readNamedIfPresent, writeNamed } from "@bureau/os/named-file";
import {
  localpartOf,
  type PrincipalLocalpart,
  parseRoomId,
  parseUserId,
  type RoomId,
} from "@bureau/schema/refs";

export const ADMIN_NAME = "bureau-admin";

export type Credentials = {
  readonly homeserver: string;
  readonly adminUser: string;
  readonly adminToken: string;
  readonly registrationToken: string;
  /** The rooms of the namespace, for others who read the file; `matrix setup` writes them. */
  readonly rooms?: Readonly<Partial<Record<CredentialRoom, RoomId>>>;
};

/** The rooms a credential file may name, and by which key. */
export const credentialRooms = {
  space: "MATRIX_SPACE_ROOM",
  system: "MATRIX_SYSTEM_ROOM",
  template: "MATRIX_TEMPLATE_ROOM",
  pipeline: "MATRIX_PIPELINE_ROOM",
  artifact: "MATRIX_ARTIFACT_ROOM",
  dev: "MATRIX_DEV_TEAM_ROOM",
} as const;
export type CredentialRoom = keyof typeof credentialRooms;

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
const adminPassword = (registrationToken: string): string =>
  sha256(`bureau-admin-password:${registrationToken}`);

/**
 * The password of an account an administrator made for a principal. It follows from the registration token, so that
 * the holder of that token can log in as the principal again, and nobody else can.
 */
export const principalPassword = (principal: PrincipalLocalpart, registrationToken: string): string =>
  sha256(`bureau-principal-password:${principal}:${registrationToken}`);

/** A session of the administrator: the kept one while it works, else a new one. Keeps it in `credentialFile`. */
export async function ensureAdministrator(options: {
  readonly homeserver: string;
  readonly fetch: Fetch;
  readonly registrationToken: string;
  readonly credentialFile: string;
  readonly username?: string;
  /** Called once for each event read that does not count. */
  readonly onIgnored?: OnIgnored;
}): Promise<{ session: MatrixSession; credentials: Credentials }> {
  const { homeserver, fetch, registrationToken, username = ADMIN_NAME } = options;
  const kept = readCredentials(options.credentialFile);
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
  writeCredentials(options.credentialFile, credentials);
  return { session: sessionOf(credentials, options), credentials };
}

/** Registers an account, or logs in to it when it exists with that password. */
export async function registerOrLogin(options: {
  readonly homeserver: string;
  readonly fetch: Fetch;
  readonly registrationToken: string;
  readonly username: string;
  readonly password: string;
}): Promise<Granted> {
  const registered = await registerWithToken({ ...options, deviceName: "bureau" });
  if (!registered.inUse) return registered;
  return login({
    homeserver: options.homeserver,
    fetch: options.fetch,
    user: options.username,
    password: options.password,
    deviceName: "bureau",
  });
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

const keys = {
  homeserver: "MATRIX_HOMESERVER_URL",
  adminUser: "MATRIX_ADMIN_USER",
  adminToken: "MATRIX_ADMIN_TOKEN",
  registrationToken: "MATRIX_REGISTRATION_TOKEN",
} as const;

/** Reads a credential file; undefined when there is none. @throws BureauError `invalid-input` when a key is missing */
export function readCredentials(path: string): Credentials | undefined {
  const text = readNamedIfPresent(path, "the credential file");
  if (text === undefined) return undefined;
  const values = new Map<string, string>();
  for (const line of text.split("\n")) {
    const equals = line.indexOf("=");
    if (!line.startsWith("#") && equals > 0)
      values.set(line.slice(0, equals).trim(), line.slice(equals + 1).trim());
  }
  const value = (key: string): string => {
    const found = values.get(key);
    if (found === undefined || found === "")
      throw new BureauError("invalid-input", `The credential file "${path}" has no ${key}`, {
        hint: "bureau matrix setup writes such a file; an instance's own: move it away, then bureau up makes it again",
      });
    return found;
  };
  return {
    homeserver: value(keys.homeserver),
    adminUser: value(keys.adminUser),
    adminToken: value(keys.adminToken),
    registrationToken: value(keys.registrationToken),
    rooms: Object.fromEntries(
      (Object.keys(credentialRooms) as CredentialRoom[]).flatMap((name) => {
        const room = values.get(credentialRooms[name]);
        return room === undefined || room === "" ? [] : [[name, parseRoomId(room)]];
      }),
    ),
  };
}

/** 0600. Rooms that are not known are left out. */
export function writeCredentials(path: string, credentials: Credentials): void {
  const lines = [
    "# Administrator of this Bureau. Whoever reads this file can do everything in it.",
    ...(Object.keys(keys) as (keyof typeof keys)[]).map((name) => `${keys[name]}=${credentials[name]}`),
    ...Object.entries(credentials.rooms ?? {}).map(
      ([name, room]) => `${credentialRooms[name as CredentialRoom]}=${room}`,
    ),
  ];
  writeNamed(path, `${lines.join("\n")}\n`, 0o600, "the credential file");
}
