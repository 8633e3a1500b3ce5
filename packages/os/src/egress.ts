/**
 * How a request leaves the process for a homeserver or another upstream: over a socket of this host, directly, or
 * through a forward proxy, and whose certificates are trusted on the way.
 *
 * Invariants: a socket and this host's own addresses are never proxied. A forward proxy carries only TLS, so that no
 * token passes it in cleartext. The runtime's own proxy variables (HTTP_PROXY and its relatives) are ignored, because
 * the runtime would obey them for every request. The runtime also pools connections to a socket by its path, so a later
 * request would reach the process that removed that socket: each request to a socket has its own connection. A socket
 * is trusted by its folder: only we, or root, can have created it there.
 */
import { lstatSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { BureauError, messageOf } from "@bureau/kit/errors";
import { parseSocketUrl, socketOf } from "@bureau/schema/homeserver-address";

/** Empty strings: not set. */
export type EgressSettings = {
  /** An http or https URL of the forward proxy that carries TLS. */
  readonly httpsProxy: string;
  /** Host names to reach directly, with their subdomains; `*` for all. Comma-separated. */
  readonly noProxy: string;
  /**
   * A file of certificates in PEM, or a folder of such files (.pem, .crt, .cer): trusted besides the well-known ones.
   */
  readonly caCerts: string;
};

/** As machine.conf and the environment of our programs name them. */
export const egressKeys = {
  httpsProxy: "BUREAU_HTTPS_PROXY",
  noProxy: "BUREAU_NO_PROXY",
  caCerts: "BUREAU_CA_CERTS",
} as const satisfies Record<keyof EgressSettings, string>;

export const noEgressSettings: EgressSettings = { httpsProxy: "", noProxy: "", caCerts: "" };

export type EgressOptions = {
  readonly unix?: string;
  readonly keepalive?: boolean;
  readonly proxy?: string;
  readonly tls?: { readonly ca: string };
};
export type Egress = {
  /** The base URL for paths. */
  readonly base: string;
  /** Further options for `fetch`. */
  readonly options: EgressOptions;
};

let settings = noEgressSettings;
let trusted: string | undefined;

/** Sets the egress of this process for all later requests. */
export function configureEgress(wanted: EgressSettings): void {
  settings = wanted;
  trusted = undefined;
}

type Env = Record<string, string | undefined>;

/** Our own variables in the environment; missing ones are empty. @throws BureauError `invalid-input` */
export const egressOfEnvironment = (env: Readonly<Env>): EgressSettings => ({
  httpsProxy: parseProxy(env[egressKeys.httpsProxy] ?? ""),
  noProxy: env[egressKeys.noProxy] ?? "",
  caCerts: env[egressKeys.caCerts] ?? "",
});

/** The variables that set an egress, for a program that is started. */
export const environmentOfEgress = (egress: EgressSettings): Record<string, string> =>
  Object.fromEntries(
    Object.entries(egressKeys).flatMap(([name, key]) => {
      const value = egress[name as keyof EgressSettings];
      return value === "" ? [] : [[key, value]];
    }),
  );

/**
 * Removes the runtime's proxy variables from the environment and returns their values, as a person's shell sets them.
 */
export function takeProxyVariables(env: Env): Pick<EgressSettings, "httpsProxy" | "noProxy"> {
  const take = (name: string): string => {
    const value = env[name] || env[name.toLowerCase()] || "";
    delete env[name];
    delete env[name.toLowerCase()];
    return value;
  };
  take("HTTP_PROXY");
  take("ALL_PROXY");
  const proxy = take("HTTPS_PROXY");
  // Shells also use HOST:PORT.
  return {
    httpsProxy: proxy === "" || proxy.includes("://") ? proxy : `http://${proxy}`,
    noProxy: take("NO_PROXY"),
  };
}

/** A proxy's URL, checked; empty stays empty. @throws BureauError `invalid-input` */
export function parseProxy(text: string): string {
  if (text === "") return "";
  const url = URL.parse(text);
  const bad = (why: string): BureauError =>
    new BureauError("invalid-input", `Invalid forward proxy${url === null ? "" : ` "${url.host}"`}: ${why}`, {
      hint: "give it as http://HOST:PORT",
    });
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:"))
    throw bad("it must be an http or https URL");
  if (url.username !== "" || url.password !== "") throw bad("it contains a user or password");
  return url.href.replace(/\/+$/u, "");
}

/**
 * The route to a homeserver's address. @throws BureauError `forbidden` when another user may have created its socket
 */
export function egressTo(address: string): Egress {
  const socket = socketOf(address);
  if (socket === undefined) {
    const base = address.replace(/\/+$/u, "");
    return { base, options: viaNetwork(base) };
  }
  requirePrivateFolder(socket);
  return { base: "http://localhost", options: viaSocket(socket) };
}

/**
 * The runtime's `fetch`, through this process's egress. Hand it to a Matrix client (`@bureau/matrix`).
 * @throws BureauError as {@link egressTo} does
 */
export async function egressFetch(url: string, init: RequestInit): Promise<Response> {
  const onSocket = parseSocketUrl(url);
  if (onSocket === undefined) return await fetch(url, { ...viaNetwork(url), ...init });
  const { base, options } = egressTo(onSocket.address);
  return await fetch(`${base}${onSocket.path}`, { ...options, ...init });
}

/** `fetch` options for a socket. */
export const viaSocket = (unix: string): EgressOptions => ({ unix, keepalive: false });

/** `fetch` options for a URL. @throws BureauError `not-found` when the certificates cannot be read */
export function viaNetwork(text: string): EgressOptions {
  const url = new URL(text);
  if (url.protocol !== "https:") return {};
  const proxy =
    settings.httpsProxy === "" || isDirect(url, settings.noProxy) ? undefined : settings.httpsProxy;
  return {
    ...(proxy === undefined ? {} : { proxy }),
    ...(settings.caCerts === "" ? {} : { tls: { ca: trustedCertificates() } }),
  };
}

/** True for this host's own addresses, and for hosts in `noProxy`. */
export function isDirect(url: URL, noProxy: string): boolean {
  const host = url.hostname.toLowerCase();
  if (/^(?:localhost|.*\.localhost|127(?:\.\d+){3}|0\.0\.0\.0|\[::1?\])$/u.test(host)) return true;
  return noProxy.split(",").some((entry) => {
    const name = entry
      .trim()
      .toLowerCase()
      .replace(/^\*?\./u, "");
    return name === "*" || (name !== "" && (host === name || url.host === name || host.endsWith(`.${name}`)));
  });
}

/** The well-known authorities and those of `caCerts`, in PEM. */
function trustedCertificates(): string {
  // Loaded here, because importing node:tls costs 12 ms in every program that starts (Bun 1.4.5).
  const { rootCertificates } = process.getBuiltinModule("node:tls");
  trusted ??= [...rootCertificates, ...readCertificates(settings.caCerts)].join("\n");
  return trusted;
}

/** @throws BureauError `not-found` when it cannot be read, `invalid-input` when there is no certificate in it */
export function readCertificates(path: string): string[] {
  let texts: string[];
  try {
    const files = statSync(path).isDirectory()
      ? readdirSync(path)
          .filter((name) => /\.(?:pem|crt|cer)$/u.test(name))
          .map((name) => join(path, name))
      : [path];
    texts = files.map((file) => readFileSync(file, "utf8"));
  } catch (error) {
    throw new BureauError("not-found", `Cannot read the certificates in "${path}": ${messageOf(error)}`, {
      hint: `${egressKeys.caCerts} names a file in PEM, or a folder of them, that the programs' user may read`,
    });
  }
  const found = texts.flatMap(
    (text) => text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/gu) ?? [],
  );
  if (found.length === 0)
    throw new BureauError("invalid-input", `There is no certificate in PEM in "${path}"`, {
      hint: "convert it: openssl x509 -inform der -in FILE -out FILE.pem",
    });
  return found;
}

function requirePrivateFolder(socket: string): void {
  const folder = dirname(socket);
  const stat = lstatSync(folder, { throwIfNoEntry: false });
  if (stat === undefined)
    throw new BureauError("unavailable", `There is no socket "${socket}"`, { hint: "bureau up" });
  const isTrusted = stat.uid === process.getuid?.() || stat.uid === 0;
  if (!stat.isDirectory() || !isTrusted || (stat.mode & 0o022) !== 0)
    throw new BureauError(
      "forbidden",
      `Cannot trust the socket "${socket}": others may write to its folder, or own it`,
      { hint: `its folder must be yours or root's, and writable by its owner alone: chmod go-w "${folder}"` },
    );
}
