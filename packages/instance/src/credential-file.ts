/** An administrator's credentials in a file of KEY=VALUE lines that only its user may read (wire facts, section 9.4). */
import type { CredentialRoom, CredentialStore, Credentials } from "@bureau/control/principals/administrator";
import { BureauError } from "@bureau/kit/errors";
import { readNamedIfPresent, writeNamed } from "@bureau/os/named-file";
import { parseRoomId } from "@bureau/schema/refs";

const keys = {
  homeserver: "MATRIX_HOMESERVER_URL",
  adminUser: "MATRIX_ADMIN_USER",
  adminToken: "MATRIX_ADMIN_TOKEN",
  registrationToken: "MATRIX_REGISTRATION_TOKEN",
} as const;

const roomKeys: Readonly<Record<CredentialRoom, string>> = {
  space: "MATRIX_SPACE_ROOM",
  system: "MATRIX_SYSTEM_ROOM",
  template: "MATRIX_TEMPLATE_ROOM",
  pipeline: "MATRIX_PIPELINE_ROOM",
  artifact: "MATRIX_ARTIFACT_ROOM",
  dev: "MATRIX_DEV_TEAM_ROOM",
};

export const credentialFileAt = (path: string): CredentialStore => ({
  read: () => readCredentials(path),
  write: (credentials) => writeCredentials(path, credentials),
});

/** Reads a credential file; undefined when there is none. @throws BureauError `invalid-input` when a key is missing */
export function readCredentials(path: string): Credentials | undefined {
  const text = readNamedIfPresent(path, "the credential file");
  if (text === undefined) return undefined;
  const values = valuesIn(text);
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
      Object.entries(roomKeys).flatMap(([name, key]) => {
        const room = values.get(key);
        return room === undefined || room === "" ? [] : [[name, parseRoomId(room)]];
      }),
    ),
  };
}

function valuesIn(text: string): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split("\n")) {
    const equals = line.indexOf("=");
    if (!line.startsWith("#") && equals > 0)
      values.set(line.slice(0, equals).trim(), line.slice(equals + 1).trim());
  }
  return values;
}

/** 0600. Leaves out rooms that are not known. */
export function writeCredentials(path: string, credentials: Credentials): void {
  const lines = [
    "# Administrator of this Bureau. Who reads this file can do everything in it.",
    ...(Object.keys(keys) as (keyof typeof keys)[]).map((name) => `${keys[name]}=${credentials[name]}`),
    ...Object.entries(credentials.rooms ?? {}).map(
      ([name, room]) => `${roomKeys[name as CredentialRoom]}=${room}`,
    ),
  ];
  writeNamed(path, `${lines.join("\n")}\n`, 0o600, "the credential file");
}
