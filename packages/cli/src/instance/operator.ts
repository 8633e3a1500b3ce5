/**
 * Who the commands act as, and where: session, homeserver, machine. Each value falls back from flag to credential file
 * to the instance's session to the person's (wire facts, section 10.1). A token is only ever read from a file.
 */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { readIfPresent } from "@bureau/kit/durable-file";
import { BureauError } from "@bureau/kit/errors";
import type { InstanceLayout } from "@bureau/kit/layout";
import { MatrixSession } from "@bureau/matrix/session";
import { readOperatorSession, type StoredSession } from "@bureau/matrix/session-file";
import {
  aliasOf,
  fleetOf,
  type Localpart,
  type MachineLocalpart,
  machineLocalpart,
  type Namespace,
  namespaceOf,
  type PrincipalLocalpart,
  parseLocalpart,
  parseMachine,
  parseRoomAlias,
  parseRoomId,
  parseUserId,
  principalLocalpart,
  type RoomId,
  serverOf,
} from "@bureau/schema/refs";
import { type Invocation, stringFlag } from "../command/command.ts";
import { type Credentials, readCredentials } from "./administrator.ts";
import { findInstance, type Instance, layoutFor, requireInstance } from "./instance.ts";

/** Opens the layout `--home` or the environment names. */
export const layoutOf = (invocation: Invocation): InstanceLayout =>
  layoutFor(stringFlag(invocation, "home"), invocation.env);

/** The instance a command is about. @throws BureauError `not-found` */
export const instanceOf = (invocation: Invocation): Instance => requireInstance(layoutOf(invocation));

/** The file `bureau login` writes and every command reads. */
export function sessionFile(invocation: Invocation): string {
  const explicit = invocation.env["BUREAU_SESSION_FILE"];
  if (explicit !== undefined && explicit !== "") return explicit;
  const layout = layoutOf(invocation);
  if (findInstance(layout) !== undefined) return layout.sessionFile;
  const config = invocation.env["XDG_CONFIG_HOME"];
  return join(config?.startsWith("/") ? config : join(homedir(), ".config"), "bureau", "session.json");
}

/** Access token and homeserver of whoever runs the command. @throws BureauError with what to type when there is none */
export function storedSession(invocation: Invocation): StoredSession {
  const credentialFile = stringFlag(invocation, "credential-file");
  const base = credentialFile === undefined ? undefined : fromCredentials(requireCredentials(credentialFile));
  const stored = base ?? readOperatorSession(sessionFile(invocation));
  const tokenFile = stringFlag(invocation, "token-file");
  return {
    ...stored,
    homeserver: stringFlag(invocation, "homeserver") ?? stored.homeserver,
    ...(tokenFile === undefined ? {} : { token: readFileSync(tokenFile, "utf8").trim() }),
  };
}

export const openSession = (invocation: Invocation): MatrixSession =>
  new MatrixSession(storedSession(invocation));

/** The administrator's credentials, needed to make accounts. @throws BureauError `forbidden` without them */
export function administratorCredentials(invocation: Invocation): Credentials {
  const path = stringFlag(invocation, "credential-file") ?? layoutOf(invocation).credentialFile;
  const credentials = readCredentials(path);
  if (credentials === undefined)
    throw new BureauError("forbidden", `Cannot make an account: there is no credential file "${path}"`, {
      hint: "give an administrator's with --credential-file PATH",
    });
  return credentials;
}

function requireCredentials(path: string): Credentials {
  const credentials = readCredentials(path);
  if (credentials === undefined) throw new BureauError("not-found", `There is no credential file "${path}"`);
  return credentials;
}

const fromCredentials = (credentials: Credentials): StoredSession => ({
  homeserver: credentials.homeserver,
  userId: parseUserId(credentials.adminUser),
  token: credentials.adminToken,
});

/** The machine a command is about: a bare name in this instance's fleet, or a full localpart. */
export function machineOf(
  invocation: Invocation,
  typed = stringFlag(invocation, "machine"),
): MachineLocalpart {
  if (typed?.includes("/")) return parseMachine(typed);
  const instance = instanceOf(invocation);
  return typed === undefined ? instance.machine : machineLocalpart(instance.fleet, typed);
}

/** `demo` is the agent `<fleet>/agent/demo`; `agent/demo`, `service/x` and full localparts are taken as they are. */
export function principalOf(machine: MachineLocalpart, typed: string): PrincipalLocalpart {
  const fleet = fleetOf(machine);
  if (typed.startsWith(`${fleet}/`)) return principalLocalpart(fleet, typed.slice(fleet.length + 1));
  return principalLocalpart(fleet, /^(agent|service)\//.test(typed) ? typed : `agent/${typed}`);
}

export const namespaceOfInvocation = (invocation: Invocation): Namespace => {
  const instance = findInstance(layoutOf(invocation));
  return instance?.namespace ?? namespaceOf(machineOf(invocation));
};

/** A room as people type it: `!id`, `#alias:server`, or an alias's localpart. @throws BureauError `not-found` */
export async function roomArgument(session: MatrixSession, typed: string): Promise<RoomId> {
  if (typed.startsWith("!")) return parseRoomId(typed);
  const alias = typed.startsWith("#")
    ? parseRoomAlias(typed)
    : aliasOf(parseLocalpart(typed) as Localpart, serverOf(session.userId));
  const room = await session.resolveAlias(alias);
  if (room === undefined)
    throw new BureauError("not-found", `There is no room "${alias}"`, { hint: "bureau matrix room list" });
  return room;
}

/** Reads a file, or standard input for "-". */
export function readInput(path: string): string {
  if (path === "-") return readFileSync(0, "utf8");
  const text = readIfPresent(path);
  if (text === undefined) throw new BureauError("not-found", `There is no file "${path}"`);
  return text;
}
