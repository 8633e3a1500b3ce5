/**
 * Which requests of the Matrix client-server API a principal may make: one table, default deny.
 *
 * ```
 * never            login, logout, registration, account changes, admin and federation paths: with any grants
 * listed           allowed; some need a grant of their own
 * everything else  needs matrix/raw-api
 * ```
 *
 * The homeserver's power levels decide about actions inside a room. This table decides about requests that change the
 * principal's identity, its rooms, or the members it invites.
 */
import { segmentsOf } from "./request-target.ts";

export type MatrixVerdict =
  /** Needs a grant for every action in `needs`; an empty list is always allowed. */
  | { readonly kind: "allowed"; readonly needs: readonly string[] }
  | { readonly kind: "never"; readonly reason: string };

/**
 * Methods, the path after `/_matrix/client/<version>/`, and the grants that it needs. `{room}`, `{user}`, `{event}` check
 * their sigil; `{address}` is a room ID or alias; `{any}` is one segment; `{key}` may be empty.
 */
const table: readonly (readonly [methods: string, pattern: string, ...needs: string[]])[] = [
  ["GET", "account/whoami"],
  ["GET", "capabilities"],
  ["GET", "sync"],
  ["POST", "user/{user}/filter"],
  ["GET", "user/{user}/filter/{any}"],
  ["GET PUT", "user/{user}/account_data/{any}"],
  ["GET PUT", "user/{user}/rooms/{room}/account_data/{any}"],
  ["GET", "user/{user}/rooms/{room}/tags"],
  ["PUT DELETE", "user/{user}/rooms/{room}/tags/{any}"],
  ["GET", "pushrules"],
  ["GET", "pushrules/{key}"],
  ["GET", "pushrules/{any}/{key}"],
  ["GET", "pushrules/{any}/{any}/{any}"],
  ["GET", "profile/{user}"],
  ["GET PUT", "profile/{user}/{any}"],
  ["GET", "joined_rooms"],

  ["GET", "rooms/{room}/state"],
  // A membership event in the state is a join or an invite.
  ["PUT", "rooms/{room}/state/m.room.member", "matrix/raw-api", "matrix/join", "matrix/invite"],
  ["PUT", "rooms/{room}/state/m.room.member/{key}", "matrix/raw-api", "matrix/join", "matrix/invite"],
  ["GET PUT", "rooms/{room}/state/{any}"],
  ["GET PUT", "rooms/{room}/state/{any}/{key}"],
  ["PUT", "rooms/{room}/send/{any}/{any}"],
  ["PUT", "rooms/{room}/redact/{event}/{any}"],
  ["GET", "rooms/{room}/messages"],
  ["GET", "rooms/{room}/members"],
  ["GET", "rooms/{room}/joined_members"],
  ["GET", "rooms/{room}/aliases"],
  ["GET", "rooms/{room}/threads"],
  ["GET", "rooms/{room}/event/{event}"],
  ["GET", "rooms/{room}/context/{event}"],
  ["GET", "rooms/{room}/relations/{event}"],
  ["GET", "rooms/{room}/relations/{event}/{any}"],
  ["GET", "rooms/{room}/relations/{event}/{any}/{any}"],
  ["PUT", "rooms/{room}/typing/{user}"],
  ["POST", "rooms/{room}/receipt/{any}/{event}"],
  ["POST", "rooms/{room}/read_markers"],
  ["POST", "rooms/{room}/leave"],
  ["POST", "rooms/{room}/forget"],
  ["POST", "rooms/{room}/kick"],
  ["POST", "rooms/{room}/ban"],
  ["POST", "rooms/{room}/unban"],

  ["POST", "createRoom", "matrix/create-room"],
  ["POST", "join/{address}", "matrix/join"],
  ["POST", "knock/{address}", "matrix/join"],
  ["POST", "rooms/{room}/join", "matrix/join"],
  ["POST", "rooms/{room}/invite", "matrix/invite"],

  ["GET", "directory/room/{alias}"],
  ["GET", "publicRooms"],
  ["POST", "user_directory/search"],
  ["GET POST", "keys/{any}"],
  ["POST", "keys/{any}/{any}"],
  ["PUT", "sendToDevice/{any}/{any}"],
  ["GET", "devices"],
  ["GET", "devices/{any}"],
  ["GET PUT", "presence/{user}/status"],
  ["GET", "voip/turnServer"],
  ["GET", "thirdparty/{any}"],
  ["GET", "thirdparty/{any}/{any}"],
  ["GET", "room_keys/version"],
  ["GET", "room_keys/version/{any}"],
  ["GET", "media/config"],
];

/** First segments that no grant allows: they create, change or end an account or a session, or administer the server. */
const neverWords: ReadonlySet<string> = new Set([
  "login",
  "logout",
  "register",
  "refresh",
  "auth",
  "account",
  "delete_devices",
  "admin",
]);
/** Other methods are refused: with TRACE the homeserver, or a server before it, would return the injected token. */
const methods: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
const stableVersions: ReadonlySet<string> = new Set(["r0", "v1", "v3"]);

type Pattern = { readonly segments: readonly string[]; readonly needs: readonly string[] };

/** `GET rooms` → its patterns, in the table's order; the first that matches decides. */
const index: ReadonlyMap<string, readonly Pattern[]> = compile();

function compile(): Map<string, Pattern[]> {
  const made = new Map<string, Pattern[]>();
  for (const [methods, pattern, ...needs] of table)
    for (const method of methods.split(" ")) {
      const segments = pattern.split("/");
      const key = `${method} ${segments[0]}`;
      made.set(key, [...(made.get(key) ?? []), { segments, needs }]);
    }
  return made;
}

/** @throws BureauError `invalid-input` when `path` (as it arrived, undecoded) is ambiguous */
export function judgeMatrixRequest(method: string, path: string): MatrixVerdict {
  const [root, api, version, ...rest] = segmentsOf(path);
  if (!methods.has(method)) return never(`${method} is not a method of the client-server API`);
  if (path === "/.well-known/matrix/client" || path === "/_matrix/client/versions")
    return method === "GET" ? open : never(`${method} ${path} does not exist`);
  if (root !== "_matrix" || version === undefined || rest.length === 0)
    return never("it is not part of the client-server API");
  if (api === "client") return judgeClient(method, version, rest);
  if (api === "media" && stableVersions.has(version))
    return method === "GET" && rest.length === 1 && rest[0] === "config" ? open : rawApi;
  return never("it is not part of the client-server API");
}

const open: MatrixVerdict = { kind: "allowed", needs: [] };
const rawApi: MatrixVerdict = { kind: "allowed", needs: ["matrix/raw-api"] };
const never = (reason: string): MatrixVerdict => ({ kind: "never", reason });

function judgeClient(method: string, version: string, rest: readonly string[]): MatrixVerdict {
  const stable = stableVersions.has(version);
  if (!stable && version !== "unstable")
    return never(`"${version}" is not a version of the client-server API`);
  if (stable)
    for (const pattern of index.get(`${method} ${rest[0] ?? ""}`) ?? [])
      if (matches(pattern.segments, rest)) return { kind: "allowed", needs: pattern.needs };
  // An extension puts its name before the path that it extends, so every segment is checked.
  const telling = (stable ? rest.slice(0, 1) : rest).map((segment) => segment.toLowerCase());
  const word = telling.find((segment) => neverWords.has(segment));
  if (word !== undefined)
    return never(`"${word}" manages accounts and sessions, which a principal may not do`);
  if (telling.includes("devices") && method === "DELETE")
    return never("a principal may not delete its devices");
  return rawApi;
}

function matches(pattern: readonly string[], rest: readonly string[]): boolean {
  return (
    pattern.length === rest.length &&
    pattern.every((wanted, at) => {
      const segment = rest[at] ?? "";
      return wanted.startsWith("{") ? fits(wanted, segment) : wanted === segment;
    })
  );
}

function fits(kind: string, segment: string): boolean {
  switch (kind) {
    case "{key}":
      return true;
    case "{room}":
      return segment.startsWith("!") && !segment.includes("/");
    case "{address}":
      return segment.startsWith("#") || (segment.startsWith("!") && !segment.includes("/"));
    case "{alias}":
      return segment.startsWith("#");
    case "{user}":
      return segment.startsWith("@");
    case "{event}":
      return segment.startsWith("$");
    default:
      return segment !== "";
  }
}
