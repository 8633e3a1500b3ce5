/**
 * The session, homeserver, fleet and machine that a command uses. Each value comes from a flag, else the credential file,
 * else the instance's session, else the person's (wire facts, section 10.1). A token is only ever read from a file.
 */
import { join } from "node:path";
import type { AccountKeys } from "@bureau/control/machines/machine-agents";
import type { Credentials } from "@bureau/control/principals/administrator";
import { noRoom, roomOf } from "@bureau/control/rooms/places";
import { warnOf } from "@bureau/control/warn-of-ignored";
import { readCredentials } from "@bureau/instance/credential-file";
import { type Instance, layoutFor, portOf } from "@bureau/instance/instance";
import { BureauError, isBureauError, messageOf } from "@bureau/kit/errors";
import { ServerAdmin } from "@bureau/matrix/server-admin";
import { MatrixSession } from "@bureau/matrix/session";
import { readIfPresent } from "@bureau/os/durable-file";
import { egressFetch } from "@bureau/os/egress";
import type { InstanceLayout } from "@bureau/os/layout";
import { sessionFileName, userFolder } from "@bureau/os/layout";
import { readNamedSecret } from "@bureau/os/named-file";
import { findByArguments, listensOnTcp } from "@bureau/os/process-table";
import { readOperatorSession, type StoredSession } from "@bureau/os/session-file";
import { parseHomeserverAddress } from "@bureau/schema/homeserver-address";
import {
  aliasOf,
  type FleetLocalpart,
  fleetOf,
  type Localpart,
  localpartOf,
  type MachineLocalpart,
  machineLocalpart,
  type Namespace,
  namespaceOf,
  type PrincipalLocalpart,
  parseFleet,
  parseLocalpart,
  parseMachine,
  parseNamespace,
  parseRoomAlias,
  parseRoomId,
  parseUserId,
  principalLocalpart,
  type RoomId,
  serverOf,
} from "@bureau/schema/refs";
import { type CommandContext, type Env, UsageError } from "./command.ts";
import { findInstallation, type InstallationChoice } from "./installation.ts";
import type { AdminTokenValue, FleetValue, HomeValue, SessionValues } from "./shared-flags.ts";

const DEFAULT_NAMESPACE = parseNamespace("bureau");

/** A command that opens a session declares `sessionFlags`. */
export type SessionChoice = CommandContext & { readonly flags: SessionValues };
/** A command that changes accounts declares `adminTokenFlag` as well. */
export type AdminChoice = CommandContext & { readonly flags: SessionValues & AdminTokenValue };
/** `--fleet` and `--home`, where the command has them. */
export type FleetChoice = { readonly flags: Partial<FleetValue & HomeValue>; readonly env: Env };
type CredentialChoice = {
  readonly flags: Partial<Pick<SessionValues, "home" | "credential-file">>;
  readonly env: Env;
};

/** Opens the layout `--home` or the environment names. */
export const layoutOf = ({ flags, env }: InstallationChoice): InstanceLayout => layoutFor(flags.home, env);

/** The file `bureau login` writes and every command reads. */
export function sessionFile(invocation: InstallationChoice): string {
  const explicit = invocation.env["BUREAU_SESSION_FILE"];
  if (explicit !== undefined && explicit !== "") return explicit;
  return instanceHere(invocation)?.layout.sessionFile ?? inConfig(invocation.env, sessionFileName);
}

/** Where `bureau matrix setup` keeps an administrator's credentials, and where they are looked for. */
export function credentialFile(invocation: CredentialChoice): string {
  const explicit = invocation.flags["credential-file"];
  if (explicit !== undefined) return explicit;
  return instanceHere(invocation)?.layout.credentialFile ?? inConfig(invocation.env, "credentials");
}

/** The rootless instance that a command is about. Operators of a system installation have files of their own. */
function instanceHere(invocation: InstallationChoice): Instance | undefined {
  const here = findInstallation(invocation);
  return here?.kind === "rootless" ? here.instance : undefined;
}

/** A file in the person's configuration folder, for a person without an instance here. */
function inConfig(env: Env, name: string): string {
  return join(userFolder("XDG_CONFIG_HOME", ".config", env), "bureau", name);
}

/** A homeserver's address as people type it. @throws UsageError */
export function parseAddress(typed: string | undefined, flag = "--homeserver"): string | undefined {
  try {
    return typed === undefined ? undefined : parseHomeserverAddress(typed);
  } catch (error) {
    throw new UsageError(`${flag}: ${messageOf(error)}`, `${flag} https://matrix.example.org`);
  }
}

/**
 * An instance of an earlier version reaches its homeserver by a port until `bureau up` moves it to a socket. While its
 * homeserver is down, any program may listen on that port, and must not get a token.
 */
function requireOurs(invocation: InstallationChoice, homeserver: string): string {
  const instance = instanceHere(invocation);
  const port = instance?.homeserverUrl === homeserver ? portOf(instance) : undefined;
  if (instance === undefined || port === undefined) return homeserver;
  const ours = findByArguments("--data-dir", instance.layout.homeserverDir);
  if (ours.some(({ pid }) => listensOnTcp(pid, port))) return homeserver;
  throw new BureauError("unavailable", `The homeserver of "${instance.layout.home}" is down`, {
    hint: "bureau up",
  });
}

/** Access token and homeserver of the person. @throws BureauError with the command to log in when there is none */
export function storedSession(invocation: SessionChoice): StoredSession {
  const explicit = invocation.flags["credential-file"];
  const base = explicit === undefined ? undefined : fromCredentials(requireCredentials(explicit));
  const stored = base ?? readOperatorSession(sessionFile(invocation), loginHint(invocation));
  const tokenFile = invocation.flags["token-file"];
  return {
    ...stored,
    homeserver: parseAddress(invocation.flags.homeserver) ?? requireOurs(invocation, stored.homeserver),
    ...(tokenFile === undefined ? {} : { token: readNamedSecret(tokenFile, "the token file") }),
  };
}

/** On a machine of a fleet, an operator logs in at its homeserver. Elsewhere a Bureau may have to be started first. */
export function loginHint(invocation: InstallationChoice): string {
  const here = findInstallation(invocation);
  return here?.kind === "system"
    ? `bureau login NAME --homeserver ${here.homeserverUrl}`
    : "bureau up, or bureau login NAME --homeserver URL";
}

/** The file that holds the token of {@link storedSession}. */
export const sourceOfSession = (invocation: SessionChoice): string =>
  invocation.flags["token-file"] ?? invocation.flags["credential-file"] ?? sessionFile(invocation);

/** The session of {@link sessionFile}, without regard to flags that name another one. */
export function openSessionOfFile(invocation: InstallationChoice & CommandContext): MatrixSession {
  const stored = readOperatorSession(sessionFile(invocation), loginHint(invocation));
  return new MatrixSession({
    ...stored,
    homeserver: requireOurs(invocation, stored.homeserver),
    fetch: egressFetch,
  });
}

export const openSession = (invocation: SessionChoice): MatrixSession =>
  new MatrixSession({
    ...storedSession(invocation),
    fetch: egressFetch,
    onIgnored: warnOf(invocation.terminal),
  });

/** Changes accounts at the homeserver: as the server admin whose token is in a file, else as the person. */
export function serverAdmin(invocation: AdminChoice): ServerAdmin {
  const { homeserver, token } = storedSession(invocation);
  const file = invocation.flags["admin-token-file"];
  return new ServerAdmin({
    homeserver,
    fetch: egressFetch,
    token: file === undefined ? token : readNamedSecret(file, "the admin token file"),
  });
}

/** The administrator's credentials, needed to make accounts. @throws BureauError `forbidden` without them */
export function administratorCredentials(invocation: CredentialChoice): Credentials {
  const path = credentialFile(invocation);
  const credentials = readCredentials(path);
  if (credentials === undefined)
    throw new BureauError("forbidden", `Cannot make an account: there is no credential file "${path}"`, {
      hint: "give an administrator's with --credential-file PATH",
    });
  return credentials;
}

/** The keys of accounts that an administrator made. @throws BureauError `forbidden` without a credential file */
export const accountKeys = (invocation: SessionChoice): AccountKeys => ({
  registrationToken: administratorCredentials(invocation).registrationToken,
  homeserver: storedSession(invocation).homeserver,
});

/** The same, or undefined without a credential file: revoking a machine must not depend on that file. */
export function accountKeysIfAtHand(invocation: SessionChoice): AccountKeys | undefined {
  try {
    return accountKeys(invocation);
  } catch (error) {
    if (isBureauError(error) && error.code === "forbidden") return undefined;
    throw error;
  }
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

/** The file `bureau fleet use` writes. */
export const fleetFile = ({ env }: { readonly env: Env }): string => inConfig(env, "fleet");

/**
 * The fleet a command is about: its argument or `--fleet`, else that of this instance, else the one this host is a machine of, else the
 * one the person chose with `bureau fleet use`.
 */
export function defaultFleet(invocation: FleetChoice, argument?: string): FleetLocalpart {
  const flag = invocation.flags.fleet;
  if (argument !== undefined && flag !== undefined && flag !== argument)
    throw new UsageError(`Two fleets given: "${argument}" and --fleet "${flag}"`, "name one of them");
  const fleet = argument === undefined ? knownFleet(invocation) : parseFleet(argument);
  if (fleet === undefined)
    throw new BureauError("invalid-input", "No fleet given, and this host has not joined a fleet", {
      hint: "bureau fleet use NAMESPACE/fleet/NAME, or --fleet (bureau fleet list shows them), or bureau up",
    });
  return fleet;
}

function knownFleet(invocation: FleetChoice): FleetLocalpart | undefined {
  const typed = invocation.flags.fleet;
  if (typed !== undefined) return parseFleet(typed);
  const machine = thisMachine(invocation);
  if (machine !== undefined) return fleetOf(machine);
  const chosen = readIfPresent(fleetFile(invocation));
  return chosen === undefined ? undefined : parseFleet(chosen.trim());
}

/** The machine that this host is; undefined when it has not joined a fleet. */
export const thisMachine = (invocation: InstallationChoice): MachineLocalpart | undefined =>
  findInstallation(invocation)?.machine;

/** Whether the machine is this host, whose daemon can be asked what it is doing. */
export const isHere = (invocation: InstallationChoice, machine: MachineLocalpart): boolean =>
  thisMachine(invocation) === machine;

/**
 * The machine a command is about: a full localpart, a user ID, or a bare name in {@link defaultFleet}; nothing typed
 * means this host.
 */
export function machineOf(invocation: FleetChoice, typed: string | undefined): MachineLocalpart {
  if (typed?.startsWith("@"))
    return requireFleet(invocation, parseMachine(localpartOf(parseUserId(typed))), typed);
  if (typed?.includes("/")) return requireFleet(invocation, parseMachine(typed), typed);
  if (typed !== undefined) return machineLocalpart(defaultFleet(invocation), typed);
  const here = thisMachine(invocation);
  if (here === undefined)
    throw new BureauError("not-found", "No machine given, and this host has not joined a fleet", {
      hint: "name one (bureau machine list shows them), or bureau up",
    });
  return requireFleet(invocation, here, undefined);
}

/** The machine, unless `--fleet` names another fleet. @throws UsageError */
function requireFleet(
  invocation: FleetChoice,
  machine: MachineLocalpart,
  typed: string | undefined,
): MachineLocalpart {
  const flag = invocation.flags.fleet;
  if (flag === undefined || parseFleet(flag) === fleetOf(machine)) return machine;
  throw typed === undefined
    ? new UsageError(
        `No machine of "${flag}" given, and this host is "${machine}"`,
        `bureau machine list ${flag}`,
      )
    : new UsageError(
        `The machine "${typed}" is in the fleet "${fleetOf(machine)}", not in "${flag}"`,
        "omit --fleet, or name a machine of that fleet",
      );
}

/**
 * `demo` is the agent `<fleet>/agent/demo`; `agent/demo`, `service/x` and full localparts are taken as they are.
 * @throws UsageError for a full localpart of another fleet
 */
export function principalOf(machine: MachineLocalpart, typed: string): PrincipalLocalpart {
  const fleet = fleetOf(machine);
  if (typed.startsWith(`${fleet}/`)) return principalLocalpart(fleet, typed.slice(fleet.length + 1));
  if (/^[^/]+\/fleet\//.test(typed))
    throw new UsageError(
      `"${typed}" is not in the fleet "${fleet}" of the machine "${machine}"`,
      `--machine takes the full name of another fleet's machine`,
    );
  parseLocalpart(typed, "name");
  return principalLocalpart(fleet, /^(agent|service)\//.test(typed) ? typed : `agent/${typed}`);
}

/** The namespace of the fleet that a command is about, else the default one. */
export function namespaceOfInvocation(invocation: FleetChoice): Namespace {
  const fleet = knownFleet(invocation);
  return fleet === undefined ? DEFAULT_NAMESPACE : namespaceOf(fleet);
}

/** A room as people type it: `!id`, `#alias:server`, or an alias's localpart. @throws BureauError `not-found` */
export async function roomArgument(session: MatrixSession, typed: string): Promise<RoomId> {
  if (typed.startsWith("!")) return parseRoomId(typed);
  const alias = typed.startsWith("#")
    ? parseRoomAlias(typed)
    : aliasOf(parseLocalpart(typed, "room"), serverOf(session.userId));
  const room = await session.resolveAlias(alias);
  if (room !== undefined) return room;
  // One word is the alias of a room, never the space of a namespace with that name.
  if (!typed.includes("/")) throw noRoom(alias);
  return await roomOf(session, localpartOf(alias) as Localpart, serverOf(alias));
}
