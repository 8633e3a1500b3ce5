/**
 * Rewrites the homeserver's address in the files of an instance that was made with a port, or whose folder was moved.
 * `instance.json` is written last, so that the next `bureau up` completes an interrupted move.
 */
import { existsSync } from "node:fs";
import { machineSessionFile } from "@bureau/os/layout";
import {
  readMachineSession,
  readOperatorSession,
  writeMachineSession,
  writeOperatorSession,
} from "@bureau/os/session-file";
import { readCredentials, writeCredentials } from "./credential-file.ts";
import { homeserverAddress, type Instance, writeInstance } from "./instance.ts";

/** The instance must be down. A session at another homeserver stays as it is. */
export function moveToSocket(instance: Instance): Instance {
  const { layout, homeserverUrl: before } = instance;
  const homeserver = homeserverAddress(layout);
  const credentials = readCredentials(layout.credentialFile);
  if (credentials?.homeserver === before)
    writeCredentials(layout.credentialFile, { ...credentials, homeserver });
  const sessions = [
    [layout.sessionFile, readOperatorSession, writeOperatorSession],
    [machineSessionFile(layout), readMachineSession, writeMachineSession],
  ] as const;
  for (const [file, read, write] of sessions) {
    const session = existsSync(file) ? read(file) : undefined;
    if (session?.homeserver === before) write(file, { ...session, homeserver });
  }
  return writeInstance({ ...instance, homeserverUrl: homeserver });
}
