/**
 * The address of a homeserver in session files, machine.conf, credential bundles and flags: an http(s) URL, or `unix:/PATH`
 * for a socket of this host. The same form with a port is an address to listen on.
 */
import { ref } from "./parse.ts";
import { RefError } from "./refs.ts";

const UNIX = "unix:";
/** Scheme of a URL whose host is a socket's path, as Docker's clients use it. */
const UNIX_SCHEME = "http+unix://";
/** sun_path of unix(7), less its final zero. */
const SOCKET_PATH_BYTES_MAX = 107;

/** Without slashes at the end. @throws RefError */
export function parseHomeserverAddress(text: string): string {
  if (text.startsWith(UNIX)) {
    parseSocketPath(text);
    return text;
  }
  const url = URL.parse(text);
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:") || /\s/u.test(text))
    throw bad(text, "it must be an http or https URL, or unix:/PATH");
  if (url.username !== "" || url.password !== "") throw bad(url.host, "it contains a user or password");
  if (url.search !== "" || url.hash !== "") throw bad(text, "it has a query or a fragment");
  return text.replace(/\/+$/u, "");
}

export const HomeserverAddressSchema = ref(parseHomeserverAddress);

/** The socket of an address; undefined for a URL. @throws RefError */
export const socketOf = (address: string): string | undefined =>
  address.startsWith(UNIX) ? parseSocketPath(address) : undefined;

/** The URL of `path` at an address. A socket's path is its host, percent-encoded: `http+unix://%2Frun%2Fhs.sock/path`. */
export function urlAt(address: string, path: string): string {
  const socket = socketOf(address);
  if (socket === undefined) return `${address.replace(/\/+$/u, "")}${path}`;
  return `${UNIX_SCHEME}${encodeURIComponent(socket)}${path}`;
}

/** The address and path that {@link urlAt} joined; undefined for a URL without a socket. @throws RefError */
export function parseSocketUrl(url: string): { readonly address: string; readonly path: string } | undefined {
  if (!url.startsWith(UNIX_SCHEME)) return undefined;
  const [, host = "", path = ""] = /^([^/?#]*)(.*)$/su.exec(url.slice(UNIX_SCHEME.length)) ?? [];
  const address = addressOfSocket(decodeURIComponent(host));
  parseSocketPath(address);
  return { address, path };
}

export const addressOfSocket = (path: string): string => `${UNIX}${path}`;

function parseSocketPath(text: string): string {
  const path = text.slice(UNIX.length);
  if (!/^\/[^/\0][^\0]*(?<!\/)$/u.test(path)) throw bad(text, "unix: needs the absolute path of a socket");
  if (new TextEncoder().encode(path).length > SOCKET_PATH_BYTES_MAX)
    throw bad(text, `a socket's path has at most ${SOCKET_PATH_BYTES_MAX} bytes`);
  return path;
}

const bad = (text: string, rule: string): RefError => new RefError("homeserver address", text, rule);

export type ListenAddress =
  | { readonly kind: "tcp"; readonly hostname: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

/** `HOST:PORT` (port 0 for any free one), `[v6]:PORT`, or `unix:/PATH`. @throws RefError */
export function parseListenAddress(text: string): ListenAddress {
  const path = socketOf(text);
  if (path !== undefined) return { kind: "unix", path };
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]\s]+)):(\d{1,5})$/u.exec(text);
  const port = Number(match?.[3]);
  const hostname = match?.[1] ?? match?.[2];
  if (hostname === undefined || port > 65_535)
    throw new RefError("address to listen on", text, "it is not HOST:PORT or unix:/PATH");
  return { kind: "tcp", hostname, port };
}
