/**
 * Names: localparts, fleets, machines, principals, rooms.
 *
 * A ref is a branded string. The only way to get one is a parser or a builder in this file, so code that holds
 * a `MachineLocalpart` never checks it again. Grammar and limits are the wire's (wire facts, section 1).
 *
 * ```
 * namespace   bureau
 * fleet       bureau/fleet/prod
 * machine     bureau/fleet/prod/machine/gpu-box
 * principal   bureau/fleet/prod/agent/code/reviewer      type "agent", principal name "agent/code/reviewer"
 * user ID     @bureau/fleet/prod/agent/code/reviewer:bureau.local
 * alias       #bureau/fleet/prod/machine/gpu-box:bureau.local
 * state key   bureau/fleet/prod/agent/code/reviewer:bureau.local     (the user ID without its "@")
 * ```
 */

declare const brand: unique symbol;
type Brand<Name extends string> = string & { readonly [brand]: { readonly [_ in Name]: true } };

/** A `/`-separated path of valid segments: the part of a user ID or alias before the `:`. At most 84 bytes. */
export type Localpart = Brand<"Localpart">;
/** `bureau`: one segment. */
export type Namespace = Brand<"Namespace">;
/** `<namespace>/fleet/<name>`. */
export type FleetLocalpart = Localpart & Brand<"FleetLocalpart">;
/** `<fleet>/machine/<name>`. */
export type MachineLocalpart = Localpart & Brand<"MachineLocalpart">;
/** `<fleet>/<type>/<name…>`: an agent, a service, or any other entity that runs in a sandbox. */
export type PrincipalLocalpart = Localpart & Brand<"PrincipalLocalpart">;
/** `<type>/<name…>`: a principal without its fleet; its name in sockets, tmux sessions and the launcher. */
export type PrincipalName = Localpart & Brand<"PrincipalName">;
/** `bureau.local`, may carry a port. */
export type ServerName = Brand<"ServerName">;
/** `@localpart:server`. */
export type UserId = Brand<"UserId">;
/** `#localpart:server`. */
export type RoomAlias = Brand<"RoomAlias">;
/** `!opaque`. */
export type RoomId = Brand<"RoomId">;
/** `$opaque`. */
export type EventId = Brand<"EventId">;
/** `localpart:server`: the state key of events about a machine or a principal. */
export type EntityStateKey = Brand<"EntityStateKey">;

/** Bytes a localpart may have, so that `/run/bureau/<type>/<name>.admin.sock` fits a socket address: 107 − 11 − 12. */
export const LOCALPART_BYTES_MAX = 84;
/** Usable bytes of `sockaddr_un.sun_path`: 108 with its closing NUL (unix(7)). */
export const SOCKET_PATH_BYTES_MAX = 107;
/** `/` and the longest socket suffix, `.admin.sock` or `.proxy.sock`. */
const SOCKET_SUFFIX_BYTES = 12;
/** Bytes of a Matrix user ID, room alias or room ID (Matrix specification, appendices). */
const MATRIX_ID_BYTES_MAX = 255;

/** A value that breaks the grammar of names. `rule` is a sentence about the broken part. */
export class RefError extends Error {
  readonly code = "invalid-name";
  constructor(
    readonly kind: string,
    readonly value: string,
    readonly rule: string,
  ) {
    super(
      `Invalid ${kind} ${JSON.stringify(value.length > 120 ? `${value.slice(0, 120)}…` : value)}: ${rule}`,
    );
    this.name = "RefError";
  }
}

const encoder = new TextEncoder();
const byteLength = (text: string): number => encoder.encode(text).length;

/** Checks the segment rules shared by every path-like name; returns the segments. */
function pathSegments(kind: string, value: string): string[] {
  if (value === "") throw new RefError(kind, value, "it is empty");
  const bad = /[^a-z0-9._=\-/]/u.exec(value);
  if (bad) throw new RefError(kind, value, `${JSON.stringify(bad[0])} is not one of a-z 0-9 . _ = - /`);
  const segments = value.split("/");
  for (const segment of segments) {
    if (segment === "")
      throw new RefError(kind, value, "it has an empty segment, or starts or ends with a slash");
    if (segment === "." || segment === "..")
      throw new RefError(kind, value, `it has the segment "${segment}"`);
    if (segment.startsWith("."))
      throw new RefError(kind, value, `the segment "${segment}" starts with a dot`);
  }
  return segments;
}

/** @throws RefError */
export function parseLocalpart(value: string, kind = "localpart"): Localpart {
  pathSegments(kind, value);
  if (byteLength(value) > LOCALPART_BYTES_MAX)
    throw new RefError(kind, value, `it has ${byteLength(value)} bytes, at most ${LOCALPART_BYTES_MAX} fit`);
  return value as Localpart;
}

/** @throws RefError */
export function parseNamespace(value: string): Namespace {
  if (parseLocalpart(value, "namespace").includes("/"))
    throw new RefError("namespace", value, "it must be one segment without a slash");
  return value as Namespace;
}

/** `<namespace>/fleet/<name>`. @throws RefError */
export function parseFleet(value: string): FleetLocalpart {
  const parts = parseLocalpart(value, "fleet").split("/");
  if (parts.length !== 3 || parts[1] !== "fleet")
    throw new RefError("fleet", value, "a fleet is <namespace>/fleet/<name>");
  return value as FleetLocalpart;
}

/** `<fleet>/machine/<name>`. @throws RefError */
export function parseMachine(value: string): MachineLocalpart {
  const parts = parseLocalpart(value, "machine").split("/");
  if (parts.length < 5 || parts[1] !== "fleet" || parts[3] !== "machine")
    throw new RefError("machine", value, "a machine is <namespace>/fleet/<fleet>/machine/<name>");
  return value as MachineLocalpart;
}

/** `<fleet>/<type>/<name…>`, any type word. @throws RefError */
export function parsePrincipal(value: string): PrincipalLocalpart {
  const parts = parseLocalpart(value, "principal").split("/");
  if (parts.length < 5 || parts[1] !== "fleet")
    throw new RefError("principal", value, "a principal is <namespace>/fleet/<fleet>/<type>/<name>");
  return value as PrincipalLocalpart;
}

/** `<type>/<name…>`. @throws RefError */
export function parsePrincipalName(value: string): PrincipalName {
  if (parseLocalpart(value, "principal name").split("/").length < 2)
    throw new RefError("principal name", value, "it must be <type>/<name>");
  return value as PrincipalName;
}

/** @throws RefError */
export function parseServerName(value: string): ServerName {
  if (value === "") throw new RefError("server name", value, "it is empty");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused here
  if (/[\u0000-\u0020@#]/u.test(value))
    throw new RefError("server name", value, "it has a space, a control character, @ or #");
  return value as ServerName;
}

/** Splits `<sigil>localpart:server` at the first colon, so that the server may carry a port. */
function splitSigil(kind: string, sigil: string, value: string): { localpart: string; server: ServerName } {
  if (!value.startsWith(sigil)) throw new RefError(kind, value, `it must start with "${sigil}"`);
  if (byteLength(value) > MATRIX_ID_BYTES_MAX)
    throw new RefError(kind, value, `it has more than ${MATRIX_ID_BYTES_MAX} bytes`);
  const colon = value.indexOf(":");
  if (colon < 0) throw new RefError(kind, value, 'it has no ":server"');
  return { localpart: value.slice(1, colon), server: parseServerName(value.slice(colon + 1)) };
}

/** Any Matrix user, ours or another's: the localpart is only required not to be empty. @throws RefError */
export function parseUserId(value: string): UserId {
  if (splitSigil("user ID", "@", value).localpart === "")
    throw new RefError("user ID", value, "its localpart is empty");
  return value as UserId;
}

/** @throws RefError */
export function parseRoomAlias(value: string): RoomAlias {
  if (splitSigil("room alias", "#", value).localpart === "")
    throw new RefError("room alias", value, "its localpart is empty");
  return value as RoomAlias;
}

/** @throws RefError */
export function parseRoomId(value: string): RoomId {
  if (!/^![^\s]+$/u.test(value) || byteLength(value) > MATRIX_ID_BYTES_MAX)
    throw new RefError("room ID", value, 'it must be "!" and an opaque name');
  return value as RoomId;
}

/** @throws RefError */
export function parseEventId(value: string): EventId {
  if (!/^\$[^\s]+$/u.test(value)) throw new RefError("event ID", value, 'it must be "$" and an opaque name');
  return value as EventId;
}

export const userIdOf = (localpart: Localpart | Namespace, server: ServerName): UserId =>
  `@${localpart}:${server}` as UserId;
export const aliasOf = (localpart: Localpart | Namespace, server: ServerName): RoomAlias =>
  `#${localpart}:${server}` as RoomAlias;
/** The server part of a user ID or alias. */
export const serverOf = (id: UserId | RoomAlias): ServerName => id.slice(id.indexOf(":") + 1) as ServerName;
/** The part between sigil and first colon. */
export const localpartOf = (id: UserId | RoomAlias): string => id.slice(1, id.indexOf(":"));

/** The state key of events about this user: its ID without `@`, so that others with the power may write it. */
export const stateKeyOf = (user: UserId): EntityStateKey => user.slice(1) as EntityStateKey;
/** The inverse of {@link stateKeyOf}. @throws RefError */
export const userOfStateKey = (key: string): UserId => parseUserId(`@${key}`);

/** Aliases of the rooms that Bureau finds by name; every alias is built here. */
export const rooms = {
  space: (ns: Namespace): Localpart => ns as unknown as Localpart,
  system: (ns: Namespace): Localpart => `${ns}/system` as Localpart,
  template: (ns: Namespace): Localpart => `${ns}/template` as Localpart,
  pipeline: (ns: Namespace): Localpart => `${ns}/pipeline` as Localpart,
  artifact: (ns: Namespace): Localpart => `${ns}/artifact` as Localpart,
  dev: (ns: Namespace): Localpart => `${ns}/dev` as Localpart,
  /** The room for people and agents of a one-machine installation; ours, not the reference's. */
  lobby: (ns: Namespace): Localpart => `${ns}/lobby` as Localpart,
  fleet: (fleet: FleetLocalpart): Localpart => fleet,
  fleetMachines: (fleet: FleetLocalpart): Localpart => `${fleet}/machine` as Localpart,
  fleetServices: (fleet: FleetLocalpart): Localpart => `${fleet}/service` as Localpart,
  config: (machine: MachineLocalpart): Localpart => machine,
  ops: (machine: MachineLocalpart): Localpart => `${machine}/ops` as Localpart,
} as const;

/** @throws RefError */
export const fleetLocalpart = (ns: Namespace, name: string): FleetLocalpart =>
  parseFleet(`${ns}/fleet/${name}`);
/** @throws RefError */
export const machineLocalpart = (fleet: FleetLocalpart, name: string): MachineLocalpart =>
  parseMachine(`${fleet}/machine/${name}`);
/** @throws RefError */
export const principalLocalpart = (fleet: FleetLocalpart, account: string): PrincipalLocalpart =>
  parsePrincipal(`${fleet}/${parsePrincipalName(account)}`);

export const namespaceOf = (fleet: FleetLocalpart | MachineLocalpart): Namespace =>
  fleet.slice(0, fleet.indexOf("/")) as Namespace;
/** The namespace of a room by its alias's localpart: the first segment. */
export const namespaceOfRoom = (room: Localpart): Namespace => room.split("/")[0] as Namespace;
/** The bare name of a fleet (`prod`), as in `/run/bureau/fleet/prod`. */
export const fleetName = (fleet: FleetLocalpart): string => fleet.slice(fleet.lastIndexOf("/") + 1);
/** The fleet a machine or principal belongs to: its first three segments. */
export const fleetOf = (entity: MachineLocalpart | PrincipalLocalpart): FleetLocalpart =>
  entity.split("/").slice(0, 3).join("/") as FleetLocalpart;
/** `agent/code/reviewer` of `bureau/fleet/prod/agent/code/reviewer`. */
export const principalNameOf = (entity: MachineLocalpart | PrincipalLocalpart): PrincipalName =>
  entity.split("/").slice(3).join("/") as PrincipalName;
/** `agent`, `service`, … : the first segment of a principal name. */
export const principalType = (account: PrincipalName): string => account.slice(0, account.indexOf("/"));
/** The part after the type: `code/reviewer`. */
export const nameWithoutType = (account: PrincipalName): string => account.slice(account.indexOf("/") + 1);

/** The principal of a user ID. @throws RefError when its localpart is not a principal's */
export const principalOfUser = (user: UserId): PrincipalLocalpart => parsePrincipal(localpartOf(user));

/** A name for folders and systemd scopes: slashes become dashes. Not reversible, not unique across types. */
export const sanitised = (account: PrincipalName): string => account.replaceAll("/", "-");

/** Longest localpart whose sockets still fit below `runDir`; 0 when not even one byte does. */
export const localpartBytesMaxFor = (runDir: string): number =>
  Math.max(0, SOCKET_PATH_BYTES_MAX - byteLength(runDir) - SOCKET_SUFFIX_BYTES);

/** A template, pipeline or credential: a state key in a room. */
export type StateRef = {
  /** `bureau/template` of `bureau/template:agent`. */
  readonly room: Localpart;
  /** Set by `room@server:name`; otherwise it is the machine's own server. */
  readonly server: ServerName | undefined;
  readonly name: string;
};

/** `<room-localpart>[@<server>]:<name>`, split at the last colon. @throws RefError */
export function parseStateRef(value: string, kind = "template reference"): StateRef {
  const colon = value.lastIndexOf(":");
  if (colon < 0)
    throw new RefError(kind, value, "it must be <room>:<name>, for example bureau/template:agent");
  const room = value.slice(0, colon);
  const name = value.slice(colon + 1);
  if (name === "" || name.split("/").some((segment) => segment === "" || segment.startsWith(".")))
    throw new RefError(
      kind,
      value,
      `"${name}" is not a name: empty, or a segment is empty or starts with a dot`,
    );
  const at = room.indexOf("@");
  return {
    room: parseLocalpart(at < 0 ? room : room.slice(0, at), kind),
    server: at < 0 ? undefined : parseServerName(room.slice(at + 1)),
    name,
  };
}

/** The inverse of {@link parseStateRef}. */
export const formatStateRef = (ref: StateRef): string =>
  `${ref.room}${ref.server === undefined ? "" : `@${ref.server}`}:${ref.name}`;
